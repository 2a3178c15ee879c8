"""Who is let in: what a request for a WebSocket must look like. Pure; the server's thread asks it."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import msgspec

PATHS = frozenset({"/v1/realtime", "/openai/v1/realtime", "/openai/realtime"})
SUBPROTOCOL = "realtime"
_KEY_PROTOCOL = "openai-insecure-api-key."


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer instead of a session."""

    status: int
    code: str
    message: str

    def body(self) -> str:
        """Return the JSON body, in the shape of the API's errors."""
        error = {"message": self.message, "type": "invalid_request_error", "param": None, "code": self.code}
        return msgspec.json.encode({"error": error}).decode()


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """What the request asks for. kind: realtime or transcription. beta: names and shapes of the beta protocol."""

    kind: str
    model: str
    beta: bool


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """The rules. token: None lets in everyone on this machine. beta: whether the beta shape is spoken."""

    token: str | None
    beta: bool

    def check(self, target: str, headers: Callable[[str], list[str]]) -> Admitted | Refused:
        """Judge a request. target: path with query. headers: name -> all values of it."""
        url = urlsplit(target)
        if url.path.rstrip("/") not in PATHS:
            return Refused(status=404, code="not_found", message=f"Nothing here: {url.path[:200]}. Try /v1/realtime.")
        if self.token is None:
            foreign = [origin for origin in headers("Origin") if not _is_loopback(origin)]
            if foreign:
                message = f"Pages of {foreign[0][:200]} may not talk to this server: start it with a token."
                return Refused(status=403, code="origin_not_allowed", message=message)
        elif not any(_same(key, self.token) for key in _keys(headers)):
            return Refused(status=401, code="invalid_api_key", message="Incorrect or missing API key.")
        wants_beta = any("realtime=v1" in value for value in headers("OpenAI-Beta"))
        if wants_beta and not self.beta:
            message = "The beta shape of the Realtime API is switched off. Leave out the header OpenAI-Beta."
            return Refused(status=400, code="beta_api_shape_disabled", message=message)
        query = parse_qs(url.query)
        model = (query.get("model") or query.get("deployment") or [""])[0]
        kind = "transcription" if query.get("intent") == ["transcription"] else "realtime"
        return Admitted(kind=kind, model=model, beta=wants_beta)


def subprotocols(headers: Callable[[str], list[str]]) -> list[str]:
    """Return the subprotocols that the client offers."""
    return [name.strip() for value in headers("Sec-WebSocket-Protocol") for name in value.split(",")]


def _keys(headers: Callable[[str], list[str]]) -> list[str]:
    keys = [
        value.partition(" ")[2].strip() for value in headers("Authorization") if value.lower().startswith("bearer ")
    ]
    keys += headers("api-key")
    keys += [name.removeprefix(_KEY_PROTOCOL) for name in subprotocols(headers) if name.startswith(_KEY_PROTOCOL)]
    return keys


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _is_loopback(origin: str) -> bool:
    """Return whether a page of this origin comes from this machine."""
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
