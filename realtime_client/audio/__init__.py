"""Audio without devices: PCM, G.711, sample rates, files. No sockets, no threads, no clock."""
