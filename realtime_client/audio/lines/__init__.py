"""Streams of sound devices that are kept up: opened, watched, timed, and opened anew on another device."""
