"""One module a wire: what to send for a question, and what the bytes of the answer mean. No sockets, threads or clocks.

Wire.request(Ask)   -> HttpRequest          what to send
Wire.reader(stream) -> Reader               told the answer's head, bytes and end; gives pieces
"""
