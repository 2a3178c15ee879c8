"""Every exception that this package raises on purpose.

    RealtimeError
    ├── UsageError              a wrong flag, setting, file or call; nothing was sent
    │   ├── MissingExtraError   an optional package is not installed; names the extra
    │   └── ModelMissingError   a model's files are not here; names the command that gets them
    ├── ConnectError            no conversation came about
    │   ├── HostUnreachableError    no such host, refused, timed out
    │   ├── AuthenticationError     the key was refused (HTTP 401/403, close 3000, error event)
    │   ├── TLSError                the certificate or the TLS handshake failed
    │   ├── RateLimitedError        HTTP 429, or the quota is used up
    │   ├── NotRealtimeError        something answers there, but not the Realtime protocol, or no text model
    │   └── SessionRefusedError     the server speaks the protocol and refuses the session
    ├── ConnectionLostError     an open conversation ended against our will
    │   ├── PongMissedError         the keep-alive got no answer in time
    │   ├── NetworkGoneError        nothing that was sent was acknowledged in time
    │   ├── SessionEndedError       the server ended it for a reason that a new session would meet again
    │   └── SessionExpiredError     the server's maximum session time is over
    ├── TimeLimitError          something was not there in time; a TimeoutError, too
    ├── ClosedError             the call came after close
    ├── QueueFullError          a bounded queue is full and its rule is to fail loudly
    ├── ResponseFailedError     the server ended an answer with status failed
    ├── RecordingError          the recording cannot be written or read
    ├── ModelError              a model's files cannot be had, or are not what the manifest says
    ├── ToolError               a tool could not do what it was called for; the model reads the message
    ├── WorkerLostError         the process or machine that played a case is gone
    └── ShutdownError           threads did not end within the deadline; names them, with stacks

Each message is one line that says what is wrong and, where there is one, what to do about it. No message
ever holds a key. All of them can be pickled, and one that was caused by another keeps it as its `__cause__`.
"""

from __future__ import annotations


class RealtimeError(Exception):
    """Root of everything this package raises on purpose."""


class UsageError(RealtimeError):
    """A wrong flag, setting, file or call; nothing was sent."""


class MissingExtraError(UsageError):
    """An optional package is not installed.

    extra: the name to put between the brackets of `pip install realtime-client[...]`.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed: pip install 'realtime-client[{extra}]'")
        self.what, self.extra = what, extra

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.what, self.extra)


class ModelMissingError(UsageError):
    """A model's files are not on this machine; the message names the command that gets them."""


class ConnectError(RealtimeError):
    """No conversation came about."""


class HostUnreachableError(ConnectError):
    """No such host, nothing listens there, it did not answer in time, or it is out of order.

    retry_after_s: what the server's Retry-After header asked for, or None.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class AuthenticationError(ConnectError):
    """The server refused the key."""


class TLSError(ConnectError):
    """The certificate or the TLS handshake failed."""


class RateLimitedError(ConnectError):
    """Too many requests, or the quota is used up.

    retry_after_s: what the server's Retry-After header asked for, or None. code: the protocol's error code, or None.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.code = code

    @property
    def is_quota(self) -> bool:
        """Whether there is nothing left to spend, so that waiting does not help."""
        return self.code in {"insufficient_quota", "quota_exceeded", "billing_hard_limit_reached"}


class NotRealtimeError(ConnectError):
    """Something answers at this URL, but it does not speak the Realtime protocol, or as a text model does."""


class SessionRefusedError(ConnectError):
    """The server speaks the protocol and refuses this session.

    code: the protocol's error code (for example `invalid_model`), or None.
    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class ConnectionLostError(RealtimeError):
    """An open conversation ended against our will.

    close_code: the WebSocket close code; 1006 when the connection dropped without one.
    """

    def __init__(self, message: str, *, close_code: int = 1006) -> None:
        super().__init__(message)
        self.close_code = close_code


class PongMissedError(ConnectionLostError):
    """The keep-alive ping got no answer in time."""


class NetworkGoneError(ConnectionLostError):
    """Nothing that was sent was acknowledged in time: no system is there any more, or no way to it."""


class SessionEndedError(ConnectionLostError):
    """The server ended an open session for a reason that a new one would meet again: key, quota, policy, settings.

    code: the protocol's error code, or None.
    """

    def __init__(self, message: str, *, close_code: int = 1006, code: str | None = None) -> None:
        super().__init__(message, close_code=close_code)
        self.code = code


class SessionExpiredError(ConnectionLostError):
    """The server's maximum session time is over."""


class TimeLimitError(RealtimeError, TimeoutError):
    """Something was not there within its time limit."""


class ClosedError(RealtimeError):
    """The call came after the session had ended."""


class QueueFullError(RealtimeError):
    """A bounded queue is full and its rule is to fail loudly."""


class ResponseFailedError(RealtimeError):
    """The server ended an answer with status failed.

    code: the protocol's error code, or None.
    """

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code


class RecordingError(RealtimeError):
    """The recording cannot be written or read."""


class ModelError(RealtimeError):
    """A model's files cannot be had, or are not what the manifest says."""


class ToolError(RealtimeError):
    """A tool could not do what it was called for; raised by a tool, its message is the result that the model reads."""


class WorkerLostError(RealtimeError):
    """The process or machine that played a case is gone; the case has no result."""


class ShutdownError(RealtimeError):
    """Threads did not end within the deadline.

    threads: their names. The message holds the names and where each one stands.
    """

    def __init__(self, message: str, *, threads: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.threads = threads
