"""Whether a file is made as ours are, seen before anything in it is followed, run or allocated.

HDF5 can name other files, data sets that are views of others, filters that are libraries to be
loaded, and shapes without data; Zarr can name any codec, of which some run what they are given.
Nothing of this is in a file that hierpool wrote, and all of it is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

SEAL = b"\nhierpool sha256:"
_TIMES, _BESIDES = 16, 2**20  # numbers that are declared, in sizes of the file, and bytes more
_DEEPEST = 8  # groups in groups
_MOST_REFERENCES = 64  # elements of an attribute that lie elsewhere in the file
_ROOT, _DIGEST = "zarr.json", "hierpool_sha256"
_OF_VERSION_2 = {".zgroup", ".zarray", ".zattrs", ".zmetadata"}
_ZSTD, _LONGEST_CHUNK = b"\x28\xb5\x2f\xfd", 2**31


class Unlike(ValueError):
    """What a file has that ours have not."""


def sealed(content: bytes | memoryview) -> bytes:
    """A NetCDF file with its checksum behind it, where readers of HDF5 do not look."""
    return bytes(content) + SEAL + hashlib.sha256(content).digest()


def check_seal(content: bytes) -> None:
    """Raise where the checksum is not that of the file; a file without one passes."""
    start = len(content) - len(SEAL) - hashlib.sha256().digest_size
    if start >= 0 and content[start : start + len(SEAL)] == SEAL:
        digest = content[start + len(SEAL) :]
        if hashlib.sha256(memoryview(content)[:start]).digest() != digest:
            raise Unlike("its checksum is wrong, so it is damaged")


def check_hdf5(content: bytes) -> None:
    """Raise where a NetCDF file has anything that ours have not."""
    import h5py

    _check_heaps(content)
    with h5py.File(BytesIO(content), "r") as file:
        _Hdf5(len(content)).check_group(file, 0)


def _check_heaps(content: bytes) -> None:
    """Raise where a heap of texts has a gap of no length, over which HDF5 steps for ever."""
    start = content.find(b"GCOL")
    while start >= 0:
        end = min(start + int.from_bytes(content[start + 8 : start + 16], "little"), len(content))
        place = start + 16
        while place + 16 <= end:
            size = int.from_bytes(content[place + 8 : place + 16], "little")
            is_gap = content[place : place + 2] == b"\0\0"
            if is_gap and size == 0:
                raise Unlike("one of its heaps is damaged")
            place += size if is_gap else 16 + -(-size // 8) * 8
        start = content.find(b"GCOL", start + 4)


class _Hdf5:
    """Sizes of what was met so far, and what was met."""

    def __init__(self, size: int) -> None:
        self.size, self.declared = size, 0
        self.seen: set[Any] = set()

    def check_group(self, group: Any, depth: int) -> None:
        import h5py

        if depth > _DEEPEST:
            raise Unlike(f"its groups are nested more than {_DEEPEST} deep")
        self._check_new(group)
        self._check_attributes(group)
        for name in group:
            if type(group.get(name, getlink=True)) is not h5py.HardLink:
                raise Unlike(f"{name!r} is a link to another place")
            inner = group[name]
            if isinstance(inner, h5py.Group):
                self.check_group(inner, depth + 1)
            elif isinstance(inner, h5py.Dataset):
                self._check_new(inner)
                self._check_attributes(inner)
                self._check_dataset(inner, name)
            else:
                raise Unlike(f"{name!r} is neither a group nor data")

    def _check_new(self, thing: Any) -> None:
        import h5py

        about = h5py.h5o.get_info(thing.id)
        if about.addr in self.seen:
            raise Unlike(f"{thing.name!r} is there twice")
        self.seen.add(about.addr)

    def _check_dataset(self, dataset: Any, name: str) -> None:
        import h5py

        made = dataset.id.get_create_plist()
        layouts = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
        if made.get_external_count() or made.get_layout() not in layouts:
            raise Unlike(f"the values of {name!r} are in another file or data set")
        if made.get_nfilters():
            raise Unlike(f"{name!r} has a filter, and hierpool writes none")
        text = h5py.check_string_dtype(dataset.dtype)
        if dataset.dtype.kind not in "iufS" and text is None:
            raise Unlike(f"{name!r} contains neither numbers nor text")
        shapes = [dataset.shape, *([dataset.chunks] if dataset.chunks else [])]
        for shape in shapes:
            self._count(math.prod(shape) * dataset.dtype.itemsize, name)
            self._count(max(shape, default=0), name)
        if text is not None and text.length is None:
            if dataset.size * dataset.dtype.itemsize > self.size:  # each has its place in the file
                raise Unlike(f"{name!r} claims to be larger than the file")
            for index in range(dataset.size):
                self._count(len(dataset[()] if not dataset.shape else dataset[(index,)]), name)

    def _check_attributes(self, thing: Any) -> None:
        import h5py

        for name in thing.attrs:
            attribute = h5py.h5a.open(thing.id, name.encode())
            count = math.prod(attribute.shape)
            self._count(count * attribute.dtype.itemsize, name)
            if attribute.dtype.kind == "O" and count > _MOST_REFERENCES:
                raise Unlike(f"the attribute {name!r} is too long")

    def _count(self, size: int, name: str) -> None:
        self.declared += size
        if self.declared > _TIMES * self.size + _BESIDES:
            raise Unlike(f"{name!r} and the data before it claim to be larger than the file")


def read_files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path within it; links are not followed."""
    files: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        if not stat.S_ISREG(mode):
            raise Unlike(f"{path.name!r} is a link, or not an ordinary file")
        if path.name != ".DS_Store":
            files[path.relative_to(folder).as_posix()] = path.read_bytes()
    return files


def check_zarr(files: Mapping[str, bytes]) -> None:
    """Raise where a Zarr folder is not of version 3 with the codecs and types that we write."""
    old = [name for name in files if name.rpartition("/")[2] in _OF_VERSION_2]
    if old:
        raise Unlike(f"{old[0]!r} is of Zarr version 2, and hierpool reads version 3 only")
    if _ROOT not in files:
        raise Unlike("it has no 'zarr.json'")
    declared, held = 0, sum(map(len, files.values()))
    for name, content in files.items():
        if name.rpartition("/")[2] != _ROOT:
            _check_chunk(name, content)
            continue
        about = msgspec.json.decode(content, type=_ZarrGroup | _ZarrArray)
        if isinstance(about, _ZarrArray):
            declared += about.size
            chunk = about.chunk_grid.configuration.chunk_shape
            most = [max(n, 1) for n in about.shape]
            if len(chunk) != len(most) or not all(map(int.__le__, chunk, most)) or 0 in chunk:
                raise Unlike(f"{name!r} has chunks of another shape than hierpool writes")
    if declared > 1000 * held + 2**26:
        raise Unlike("its arrays claim to be far larger than its files")
    about = json.loads(files[_ROOT])
    seal = about.get("attributes", {}).pop(_DIGEST, None)
    if seal is not None and seal != _digest(about, files):
        raise Unlike("its checksum is wrong, so it is damaged")


def sealed_zarr(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """A Zarr folder with the checksum of all its files among the attributes of the whole."""
    root = json.loads(files[_ROOT])
    digest = _digest(root, files)
    root.setdefault("attributes", {})[_DIGEST] = digest
    return {**files, _ROOT: json.dumps(root).encode()}


def _digest(root: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256(json.dumps(root, sort_keys=True).encode())
    for name in sorted(set(files) - {_ROOT}):
        part = hashlib.sha256(files[name])
        whole.update(name.encode() + b"\0" + part.digest())
    return whole.hexdigest()


def _check_chunk(name: str, content: bytes) -> None:
    """Raise where a compressed chunk says that it is larger than any of ours, or does not say it."""
    head = content[4] if len(content) > 5 and content[:4] == _ZSTD else 0
    code, single, words = head >> 6, head >> 5 & 1, head & 3
    width = (1 if single else 0, 2, 4, 8)[code]
    start = 5 + (1 - single) + (0, 1, 2, 4)[words]
    if head and width and len(content) >= start + width:
        size = int.from_bytes(content[start : start + width], "little") + 256 * (width == 2)
        if size <= min(_LONGEST_CHUNK, 1000 * len(content) + 2**26):
            return
    raise Unlike(f"{name!r} is not a chunk as hierpool writes it")


class _Strict(Struct, forbid_unknown_fields=True):
    pass


_Size = Annotated[int, Meta(ge=0, lt=2**40)]


class _Empty(_Strict):
    pass


class _TextLength(_Strict):
    length_bytes: Annotated[int, Meta(ge=1, lt=2**31)]


class _Text(_Strict):
    name: Literal["fixed_length_utf32"]
    configuration: _TextLength


class _ChunkShape(_Strict):
    chunk_shape: list[_Size]


class _Grid(_Strict):
    name: Literal["regular"]
    configuration: _ChunkShape


class _Separator(_Strict):
    separator: Literal["/"] = "/"


class _Keys(_Strict):
    name: Literal["default"]
    configuration: _Separator = msgspec.field(default_factory=_Separator)


class _Endian(_Strict):
    endian: Literal["little", "big"] = "little"


class _BytesCodec(_Strict, tag_field="name", tag="bytes"):
    configuration: _Endian = msgspec.field(default_factory=_Endian)


class _Level(_Strict):
    level: int = 0
    checksum: bool = False


class _ZstdCodec(_Strict, tag_field="name", tag="zstd"):
    configuration: _Level = msgspec.field(default_factory=_Level)


_Number = Annotated[str, Meta(pattern=r"^(bool|u?int(8|16|32|64)|float(16|32|64))$")]


class _ZarrGroup(_Strict, tag_field="node_type", tag="group"):
    zarr_format: Literal[3]
    attributes: dict[str, Any] = {}
    consolidated_metadata: None = None


class _ZarrArray(_Strict, tag_field="node_type", tag="array"):
    zarr_format: Literal[3]
    shape: list[_Size]
    data_type: _Number | _Text
    chunk_grid: _Grid
    chunk_key_encoding: _Keys
    fill_value: bool | int | float | str
    codecs: Annotated[list[_BytesCodec | _ZstdCodec], Meta(min_length=1, max_length=2)]
    attributes: dict[str, Any] = {}
    dimension_names: list[str | None] | None = None
    storage_transformers: Annotated[list[_Empty], Meta(max_length=0)] = []

    @property
    def size(self) -> int:
        """In bytes, of numbers at most."""
        kind = self.data_type
        each = kind.configuration.length_bytes if isinstance(kind, _Text) else 8
        return math.prod(self.shape) * each
