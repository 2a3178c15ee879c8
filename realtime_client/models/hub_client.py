"""Run as a program: REPOSITORY REVISION FILE FOLDER. Downloads a file of the model hub into the folder.

The exit code is 3 if the hub cannot be reached, 1 if it does not give the file; the last line says why.
"""

from __future__ import annotations

import sys


def main(repository: str, revision: str, file: str, folder: str) -> int:
    """Download a file, and return the exit code."""
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(repository, file, revision=revision, local_dir=folder)
    except Exception as error:  # noqa: BLE001  # whatever the client meets is told in one line
        print(" ".join(str(error).split())[:500] or type(error).__name__)  # noqa: T201
        return 1 if _is_refused(error) else 3
    return 0


def _is_refused(error: BaseException | None) -> bool:
    """Tell whether the hub answered, and gave a reason that asking again does not change."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    while error is not None:  # the client may say of an answer only that the file is not in its cache either
        if isinstance(error, HfHubHTTPError):
            return error.response.status_code < 500
        if isinstance(error, HFValidationError):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
