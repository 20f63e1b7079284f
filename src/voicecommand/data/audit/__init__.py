"""What can be wrong with a data set, before any model sees it.

findings  all checks, for training and for recipes/audit.py
problem   what the checks read, and what they find
rows      single rows: empty, long, silent, clipped
labels    conflicts, slips of spelling, missing labels
copies    rows, recordings and speakers on both sides of a split
twins     recordings that are nearly the same
"""
