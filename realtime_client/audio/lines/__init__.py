"""Streams of sound devices, kept alive: opened, watched, timed, and reopened on another device."""
