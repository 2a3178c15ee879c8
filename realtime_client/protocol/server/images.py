"""Server side: whether what a client calls an image is one."""

from __future__ import annotations

import binascii
import re

import pybase64

from .checks import Refusal

_DATA = re.compile(r"data:image/(?:png|jpe?g);base64,", re.IGNORECASE)
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # PNG (its section 5.2), JPEG (SOI and the next marker)


def check_image(url: str, param: str) -> None:
    """Check a data URL of a PNG or JPEG, or an https URL, which nobody fetches here. Errors: Refusal."""
    head = _DATA.match(url)
    if head is None:
        if not re.match(r"https://[^\s/?#]", url):
            message = f"Invalid '{param}': expected a data URL of a PNG or JPEG image (data:image/png;base64,...)."
            raise Refusal(message, param=param)
        return
    try:
        data = pybase64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(f"Invalid '{param}': the image data is not base64.", param=param) from None
    if not data.startswith(_SIGNATURES):
        raise Refusal(f"Invalid '{param}': the image data is no PNG and no JPEG.", param=param)
