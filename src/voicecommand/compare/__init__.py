"""Several measurements of one saved run, and figures over many runs.

robustness          accuracy under worse and worse input
conditions          noise, band limits, clipping
recogniser_errors   wrong words, as from a speech recogniser
leaderboard         a row for the runs of one configuration: means over seeds, intervals
leaderboard_tables  those rows in Markdown
pool                clips, and models fitted on parts of them
learning_curve      accuracy with few training examples of each label
rejection           how often commands with unknown labels are accepted
tables              Markdown tables and their cells
"""
