"""The name and the version, alone in their module so that `realtime --version` imports nothing else."""

APP_NAME = "realtime-client"
__version__ = "0.1.0"
