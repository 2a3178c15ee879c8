"""The version, alone in its module so that `realtime --version` imports nothing else."""

__version__ = "0.1.0"
