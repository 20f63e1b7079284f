"""One file a task: what its columns are, how examples are encoded, which model and metrics it has."""
