"""The manifest of models: what it may say, and that ours says enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from realtime_client import models
from realtime_client.errors import UsageError

DIGEST = "0" * 64


def described() -> dict[str, Any]:
    """A manifest as its file has it."""
    return {
        "packages": {"data": {"version": "1.0", "size_bytes": 9, "sha256": DIGEST}},
        "models": {
            "toy": {
                "what_for": "tests",
                "licence": "MIT",
                "origin": "here",
                "files": [
                    {
                        "name": "model.bin",
                        "size_bytes": 4,
                        "sha256": DIGEST,
                        "pieces": [{"package": "data", "member": "data/model.bin"}],
                        "hub": {"repository": "us/toy", "revision": "v1", "file": "deep/model.bin"},
                    }
                ],
            }
        },
    }


def read(tmp_path: Path, content: Any) -> models.Manifest:
    path = tmp_path / "manifest.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return models.read_manifest(path)


def changed(where: str, value: Any) -> dict[str, Any]:
    """The manifest with one value replaced. where: keys with dots between."""
    whole = described()
    *path, last = where.split(".")
    place: Any = whole
    for key in path:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[last] = value
    return whole


FILE = "models.toy.files.0"
ODD_NAMES = ["../x", "a/b", "..", ".hidden", "-x", "", "x\n", "/x", "a\\b", "a b", "a\0b", "é", "x" * 101]
ODD_PATHS = ["../x", "a/../b", "/etc/passwd", "a//b", "a/.git/x", "-x", "", "a/b\n", "a\\b", "a/-rf", "C:/x"]


@pytest.mark.parametrize(
    ("where", "value"),
    [
        *((f"{FILE}.name", name) for name in ODD_NAMES),
        *((f"{FILE}.pieces", [{"package": "data", "member": path}]) for path in ODD_PATHS),
        *((f"{FILE}.hub.file", path) for path in ODD_PATHS),
        *((f"models.{name}", described()["models"]["toy"]) for name in ("a/b", "-x", "x~y") if "." not in name),
        *((f"packages.{name}", described()["packages"]["data"]) for name in ("-r", "a b", "@a", "a/b/c")),
        (f"{FILE}.pieces", [{"package": "other", "member": "x"}]),
        (f"{FILE}.hub.repository", "toy"),
        (f"{FILE}.hub.repository", "../../toy"),
        (f"{FILE}.hub.revision", "--help"),
        (f"{FILE}.hub.revision", "refs/heads/main"),
        (f"{FILE}.sha256", DIGEST[1:]),
        (f"{FILE}.sha256", DIGEST.replace("0", "A")),
        (f"{FILE}.size_bytes", -1),
        (f"{FILE}.size_bytes", "4"),
        (f"{FILE}.url", "elsewhere"),
        ("packages.data.version", "1.0 --hash"),
        ("packages.data.version", "-1"),
        ("packages.data.registry", "cargo"),
        ("models.toy.files", []),
        (
            "models.toy.files",
            [described()["models"]["toy"]["files"][0] | {"name": name} for name in ("a.bin", "A.bin")],
        ),
        ("models", None),
    ],
)
def test_a_manifest_that_is_none(where: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest\.yaml is no manifest of models: .+"):
        read(tmp_path, changed(where, value))


@pytest.mark.parametrize("text", ["", "[", "a: &a [*a]\nmodels: *a", "- 1", "\x00", "[" * 5_000])
def test_a_file_that_is_no_manifest(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest\.yaml is no manifest of models: .+"):
        read(tmp_path, text)


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        models.read_manifest(tmp_path / "manifest.yaml")


def test_a_manifest_that_is_one(tmp_path: Path) -> None:
    toy = read(tmp_path, described()).model("toy")
    assert toy.size_bytes == 4
    assert toy.files[0].pieces[0].member == "data/model.bin"
    assert read(tmp_path, changed("packages.@us/data", described()["packages"]["data"])).packages.keys() >= {"@us/data"}


def test_the_nearest_name_is_told(tmp_path: Path) -> None:
    manifest = read(tmp_path, described())
    with pytest.raises(UsageError, match=r"there is no model 'tov'; did you mean toy\?"):
        manifest.model("tov")
    with pytest.raises(UsageError, match="there is no model 'elephant'; `realtime models` lists all"):
        manifest.model("elephant")


def test_our_own_manifest_says_where_each_file_comes_from() -> None:
    manifest = models.own_manifest()
    assert {"smollm2-135m-instruct", "whisper-tiny.en", "piper-en-us-joe", "misaki-en-us"} <= manifest.models.keys()
    for name, model in manifest.models.items():
        assert all(file.pieces for file in model.files), name
        assert len(f"{name} {model.what_for}") < 90, "for the list"
    used = {piece.package for m in manifest.models.values() for f in m.files for piece in f.pieces}
    assert used == manifest.packages.keys()
