"""Who is let in, and where: what a request must look like. Pure; the server's thread asks it."""

from __future__ import annotations

import hmac
from urllib.parse import parse_qs, urlsplit

import msgspec

from realtime_client.loopback import is_loopback
from realtime_client.protocol.server.checks import Json

from .http import Refused, Request
from .keys import PREFIX, Keys

PATHS = frozenset({"/v1/realtime", "/openai/v1/realtime", "/openai/realtime"})
_KEY_PATHS = frozenset({"/v1/realtime/client_secrets", "/openai/v1/realtime/client_secrets"})
SUBPROTOCOL = "realtime"
_KEY_PROTOCOL = "openai-insecure-api-key."
_BETA_PROTOCOL = "openai-beta.realtime-v1"


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """What the request asks for. kind: realtime or transcription. beta: names and shapes of the beta protocol.

    session: the settings with which it begins, as an update; None when the key brings none.
    """

    kind: str
    model: str
    beta: bool
    session: Json | None = None


class KeyWanted(msgspec.Struct, frozen=True):
    """An ephemeral key may be made; the request's body says which."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """The rules. token: None lets in everyone on this machine. beta: whether the beta shape is spoken."""

    token: str | None
    beta: bool
    keys: Keys

    def check(self, request: Request) -> Admitted | KeyWanted | Refused:
        """Judge a request."""
        path, _, query = request.target.partition("?")
        path = path.rstrip("/")
        if path not in PATHS | _KEY_PATHS:
            message = f"Nothing here: {path[:200] or '/'}. Try /v1/realtime."
            return Refused(status=404, code="not_found", message=message)
        method = "GET" if path in PATHS else "POST"
        if request.method != method:
            message = f"{path} takes {method} requests only."
            return Refused(status=405, code="method_not_allowed", message=message, headers=(("Allow", method),))
        if path in _KEY_PATHS:
            return _foreign(request, "keys are for programs") or self._unauthorized(request) or KeyWanted()
        return self._admit(request, parse_qs(query))

    def _unauthorized(self, request: Request) -> Refused | None:
        """The refusal of a client that does not know the token."""
        if self.token is None or any(_same(key, self.token) for key in _keys(request)):
            return None
        return Refused(status=401, code="invalid_api_key", message="Incorrect or missing API key.")

    def _admit(self, request: Request, query: dict[str, list[str]]) -> Admitted | Refused:
        session = None
        ephemeral = [key for key in _keys(request) if key.startswith(PREFIX) and key != self.token]
        if ephemeral:
            session = self.keys.session(ephemeral[0])
            if session is None:
                message = "The ephemeral key is unknown or has expired."
                return Refused(status=401, code="invalid_api_key", message=message)
        elif refused := self._unauthorized(request) or (
            _foreign(request, "start it with a token") if self.token is None else None
        ):
            return refused
        wants_beta = _BETA_PROTOCOL in _offered(request) or any(
            "realtime=v1" in value for value in request.all("OpenAI-Beta")
        )
        if wants_beta and not self.beta:
            message = "The beta shape of the Realtime API is switched off. Do not ask for it (OpenAI-Beta)."
            return Refused(status=400, code="beta_api_shape_disabled", message=message)
        model = (query.get("model") or query.get("deployment") or [""])[0]
        kind = "transcription" if query.get("intent") == ["transcription"] else "realtime"
        if session is not None:
            kind = session["type"]
        return Admitted(kind=kind, model=model, beta=wants_beta, session=session)


def _foreign(request: Request, remedy: str) -> Refused | None:
    """The refusal of a page that does not come from this machine."""
    foreign = [origin for origin in request.all("Origin") if not _is_loopback(origin)]
    if not foreign:
        return None
    message = f"Pages of {foreign[0][:200]} may not do this here: {remedy}."
    return Refused(status=403, code="origin_not_allowed", message=message)


def _keys(request: Request) -> list[str]:
    """The keys that a client presents: as a bearer, as Azure does, or, in a browser, as a subprotocol."""
    bearers = [value for value in request.all("Authorization") if value.lower().startswith("bearer ")]
    return [
        *(value.partition(" ")[2].strip() for value in bearers),
        *request.all("api-key"),
        *(name.removeprefix(_KEY_PROTOCOL) for name in _offered(request) if name.startswith(_KEY_PROTOCOL)),
    ]


def _offered(request: Request) -> list[str]:
    """The subprotocols that a client offers: where a page, which can set no headers, puts what others put there."""
    return [name.strip() for value in request.all("Sec-WebSocket-Protocol") for name in value.split(",")]


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def _is_loopback(origin: str) -> bool:
    """Return whether a page of this origin comes from this machine."""
    try:
        host = urlsplit(origin).hostname or ""
    except ValueError:
        return False
    return host.endswith(".localhost") or is_loopback(host)  # browsers take the former for this machine (RFC 6761)
