"""What runs leave behind, summed up and compared."""
