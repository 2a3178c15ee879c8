"""Live voice: a microphone and a speaker around a session, interruption, turn taking."""
