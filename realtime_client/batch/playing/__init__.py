"""One case played into one session."""
