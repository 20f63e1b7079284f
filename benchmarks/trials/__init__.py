"""The trials of benchmarks/chaos.py.

programs    trainings that start from a process that has the imports done, or by the real command
material    tiny data, a tiny checkpoint, the settings of each kind of training, and what must be equal
row         a row of the scoreboard: its trials, what was held, and what was broken on purpose
"""
