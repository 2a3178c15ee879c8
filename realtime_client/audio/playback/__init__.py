"""Sound on its way to a device, and what of it was heard. Pure."""
