"""Sound on its way to a device, and how much of it was heard. Pure."""
