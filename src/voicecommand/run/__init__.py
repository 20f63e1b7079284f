"""A run: its directory, its records, and the process that it is.

directory  the run directory: lock, marker, signals
records    run.json, history.json, the threshold
logs       terminal and log.txt
exits      errors as one line and an exit code
processes  ranks, cores, threads
device     which device computes, in which precision
machine    versions, hardware, memory, seconds
"""
