"""Several measurements of one saved run.

robustness         accuracy as the input gets worse
conditions         noise, band limits, clipping
recogniser_errors  wrong words, as a recogniser makes them
"""
