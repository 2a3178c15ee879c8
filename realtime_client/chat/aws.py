"""Requests to Amazon Bedrock, signed. Needs the extra `bedrock`.

Credentials are found as by all of Amazon's programs: the environment, profiles, single sign-on, containers, the
machine's role (https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html). A key of Bedrock's own,
AWS_BEARER_TOKEN_BEDROCK, comes before them, as there.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from realtime_client.errors import MissingExtraError, UsageError
from realtime_client.escape import one_line

Signer = Callable[[str, str, Mapping[str, str], bytes], dict[str, str]]
"""(method, URL, headers, body) -> the headers to add."""

_SERVICE = "bedrock"
_HERE = {"localhost", "127.0.0.1", "::1"}


def region(given: str | None = None, profile: str | None = None) -> str:
    """Return the region: the one given, or that of the environment (AWS_REGION, AWS_DEFAULT_REGION), or the profile's.

    Errors: UsageError, in one line, where there is none; MissingExtraError.
    """
    found = given or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    found = found or _asked(lambda: _session(profile).get_config_variable("region"))
    if not found:
        raise UsageError("Bedrock needs a region: set AWS_REGION, for example to us-east-1")
    if not re.fullmatch(r"[a-z0-9-]+", found):
        raise UsageError(f"{found!r} is no region of Amazon: AWS_REGION is for example us-east-1")
    return str(found)


def signer(region: str, profile: str | None = None) -> Signer:
    """Return what signs requests. It may renew credentials, which takes a request of its own.

    Errors: UsageError, in one line, for credentials that are missing; MissingExtraError.
    """
    token = os.environ.get("AWS_BEARER_TOKEN_BEDROCK", "").strip()
    if not token.isascii() or not token.isprintable():
        raise UsageError("AWS_BEARER_TOKEN_BEDROCK holds a line break or another character that no key has")
    if token:
        return lambda _method, url, _headers, _body: {"Authorization": f"Bearer {_safe(token, url)}"}
    credentials = _asked(lambda: _session(profile).get_credentials())
    if credentials is None:
        raise UsageError(
            "Bedrock needs credentials: set AWS_BEARER_TOKEN_BEDROCK, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
            " or sign in with `aws configure` or `aws sso login`"
        )
    return _Signed(credentials, region)


class _Signed:
    """Signature Version 4. Only the type of the content is signed with what must be: proxies change other headers."""

    def __init__(self, credentials: Any, region: str) -> None:
        self._credentials = credentials
        self._region = region

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        kind = {name: value for name, value in headers.items() if name.lower() == "content-type"}
        request = AWSRequest(method=method, url=url, headers=kind, data=body)
        frozen = _asked(self._credentials.get_frozen_credentials)
        SigV4Auth(frozen, _SERVICE, self._region).add_auth(request)
        return dict(request.headers.items())


def _safe(token: str, url: str) -> str:
    """The token, if nobody on the way can read it."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _HERE:
        raise UsageError("AWS_BEARER_TOKEN_BEDROCK is only sent over https")
    return token


def _session(profile: str | None) -> Any:
    try:
        from botocore.session import Session
    except ImportError:
        raise MissingExtraError("botocore, which signs requests to Bedrock,", "bedrock") from None
    return Session(profile=profile)


def _asked(question: Callable[[], Any]) -> Any:
    """Ask botocore; what it raises becomes an error of ours."""
    try:
        return question()
    except UsageError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith("botocore"):
            raise
        raise UsageError(f"no credentials of Amazon: {one_line(str(error), 300)}") from error
