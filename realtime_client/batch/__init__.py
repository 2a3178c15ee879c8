"""Scripted conversations: scenarios, their runs, checks and results."""
