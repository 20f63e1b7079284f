"""The trials of benchmarks/chaos.py.

row         a row of the scoreboard, and how its trials are run
programs    a recipe in a forked child of a process that has the imports done, or by the real command
faults      what a trial does to a training from inside
material    tiny data, a tiny checkpoint, the kinds of training, and what two runs must have in common
references  the trainings that nobody disturbs, and runs that were killed
kills, resume, damage, saved, signals, lost, disk, changed    one row each
counted     rows that are tests of the project
cost        what it costs where nothing goes wrong
page        the scoreboard, and docs/reliability.md
"""

import sys

from measuring import ROOT

sys.path.append(str(ROOT / "tests"))  # damage.py, what can happen to a file: the same list as the tests'
