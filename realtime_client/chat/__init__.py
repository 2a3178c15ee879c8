"""Conversations with text models over HTTP: wires without I/O, and the sessions that use them."""
