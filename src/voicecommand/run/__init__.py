"""A run: its directory, its records and its process.

directory    the run directory: lock, status
finished     finished runs by name: the newest, a directory, a pattern
checkpoints  what a run can be continued from
inputs       what a run began with: data, base checkpoint, settings, machine
manifest     the files of a folder by size and hash
records      run.json, history.json, the threshold
logs         terminal and log.txt
exits        errors as one line and an exit code
processes    ranks, cores, threads, and what a launcher was asked for
connections  connections between the ranks
ranks        ranks that watch one another: one that dies or hangs ends the run
signals      requests to stop: signals, and the end of the launcher
device       the device, and its precision
machine      versions, hardware, memory, seconds
"""
