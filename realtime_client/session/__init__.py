"""What every conversation is, whatever wire it goes over."""
