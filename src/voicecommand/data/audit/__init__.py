"""Checks of a data set, before any model sees it.

findings     all checks, for training and for recipes/audit.py
problem      the input of the checks, and the problems that they find
rows         single rows: empty, long, silent, clipped
labels       conflicts, misspellings, missing labels
transcripts  too much text for the recording, two texts for one
copies       rows, recordings and speakers that are in two splits
twins        recordings that are nearly the same
"""
