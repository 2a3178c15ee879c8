"""What tests of models share: packages made on the spot, places to have them from, and the real models."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from platformdirs import user_cache_dir

from realtime_client import models
from realtime_client.errors import HostUnreachableError
from realtime_client.models.manifest import File, HubFile, Manifest, Model, Package, Piece

REAL_STORE = Path(os.environ.get("REALTIME_MODELS_DIR") or Path(user_cache_dir("realtime-client")) / "test-models")
"""Where real models stay from one run of the tests to the next: outside of the home that each test gets."""
LIMIT_S = 30.0


def real_model(name: str) -> Path:
    """Return the folder of a real model, which is fetched the first time. Without a network the test skips."""
    try:
        return models.get(name, store=REAL_STORE)
    except HostUnreachableError as error:
        pytest.skip(str(error))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel(folder: Path, name: str, members: dict[str, bytes], version: str = "1.0") -> Path:
    """Make a wheel (as pip knows it) of data alone."""
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    files = members | {
        f"{plain}/__init__.py": b"raise SystemExit('a package of data was imported')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = [f"{path},sha256={_record_digest(data)},{len(data)}" for path, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{plain}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in files.items():
            archive.writestr(member, data)
    return path


def _record_digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def tarball(folder: Path, name: str, members: dict[str, bytes], version: str = "1.0.0") -> Path:
    """Make a package as npm packs it."""
    described = {"package/package.json": json.dumps({"name": name, "version": version}).encode()}
    path = folder / f"{name}-{version}.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for member, data in (described | members).items():
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def package(archive: Path, **fields: Any) -> Package:
    """Describe an archive as the manifest does."""
    data = archive.read_bytes()
    given = {"version": "1.0", "size_bytes": len(data), "sha256": digest(data)} | fields
    return Package(**given)


def file(name: str, data: bytes, *pieces: tuple[str, str], hub: HubFile | None = None) -> File:
    told = tuple(Piece(package=package, member=member) for package, member in pieces)
    return File(name=name, size_bytes=len(data), sha256=digest(data), pieces=told, hub=hub)


def manifest(*files: File, name: str = "toy", **packages: Package) -> Manifest:
    """Describe one model. packages: by name, with underscores for dashes."""
    model = Model(what_for="tests", licence="MIT", origin="the tests", files=files)
    return Manifest(models={name: model}, packages={key.replace("_", "-"): value for key, value in packages.items()})


def leftovers(store: Path, name: str = "toy") -> list[str]:
    """What is in a store besides the model and its lock."""
    return sorted(path.name for path in store.iterdir() if path.name not in (name, f".{name}.lock"))


def offline(monkeypatch: pytest.MonkeyPatch, index: Path) -> None:
    """Let pip know a folder of wheels and nothing else, whatever the machine is set up with."""
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    index.mkdir(exist_ok=True)
    for variable, value in (("CONFIG_FILE", os.devnull), ("NO_INDEX", "1"), ("FIND_LINKS", str(index))):
        monkeypatch.setenv(f"PIP_{variable}", value)


class Registry:
    """A server of files on this machine. answers: path -> (headers, body); everything else is 404.

    asked: the paths of every GET. held: paths whose answer waits until `release` is set; `reached` is set by the first.
    """

    def __init__(self) -> None:
        self.answers: dict[str, tuple[dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        self.held: set[str] = set()
        self.reached, self.release = threading.Event(), threading.Event()
        self.url = ""

    def add(self, path: str, body: bytes | str, **headers: str) -> None:
        body = body.encode() if isinstance(body, str) else body
        self.answers[path] = ({name.replace("_", "-"): value for name, value in headers.items()}, body)

    def add_wheel(self, path: Path, name: str) -> None:
        """Offer a wheel as a package index does (PEP 503)."""
        link = f'<a href="/files/{path.name}">{path.name}</a>'
        self.add(f"/simple/{name}/", link, Content_Type="text/html")
        self.add(f"/files/{path.name}", path.read_bytes())


@contextmanager
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    """Serve files, and make pip, npm and the model hub's client believe that this is where theirs are."""
    served = Registry()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(head=True)

        def do_GET(self) -> None:
            served.asked.append(self.path)
            self._answer()

        def _answer(self, *, head: bool = False) -> None:
            if self.path in served.held and not head:
                served.reached.set()
                served.release.wait(LIMIT_S)
            found = self.path in served.answers
            headers, body = served.answers.get(self.path, ({}, b"no such file"))
            self.send_response(200 if found else 404)
            for name, value in (headers | {"Content-Length": str(len(body)), "Connection": "close"}).items():
                self.send_header(name, value)
            self.end_headers()
            if not head:
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    offline(monkeypatch, tmp_path / "no-wheels")
    monkeypatch.delenv("PIP_NO_INDEX")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that was killed
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setenv("PIP_INDEX_URL", f"{served.url}/simple")
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("npm_config_registry", served.url)
        monkeypatch.setenv("npm_config_fetch_retries", "0")
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            served.release.set()
            server.shutdown()
            thread.join()


def get_elsewhere(description: Path, store: Path) -> subprocess.Popen[str]:
    """Get the model `toy` in another process, which says on stdout that it waits, and how it ended."""
    program = (
        "import sys; from pathlib import Path; from realtime_client import models; "
        "manifest = models.read_manifest(Path(sys.argv[1])); "
        "say = lambda text: print(text, flush=True); "
        "say(models.get('toy', store=Path(sys.argv[2]), manifest=manifest, on_wait=lambda: say('waits')))"
    )
    command = [sys.executable, "-c", program, str(description), str(store)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
