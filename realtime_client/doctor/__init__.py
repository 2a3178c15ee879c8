"""Checks of everything that a session needs."""
