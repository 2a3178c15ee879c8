"""Many cases at a time: worker processes, clusters, resuming."""
