"""Several measurements of one saved run, and figures over many runs.

robustness          accuracy as the input gets worse
conditions          noise, band limits, clipping
recogniser_errors   wrong words, as a recogniser makes them
leaderboard         one row for the runs of one configuration: means over seeds, intervals
leaderboard_tables  the rows in Markdown
pool                clips and a model that is fitted on any part of them
learning_curve      accuracy after few examples of each label
rejection           how often a command is accepted that training did not know
tables              Markdown tables and their cells
"""
