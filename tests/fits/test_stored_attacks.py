"""Saved files that were damaged or made by someone else: a fit as it was saved, or one error."""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import hierpool as hp
from hierpool.core.errors import HierpoolError, MissingPackageError, StorageError
from hierpool.fits import storage, stored_files
from tests.fits.test_storage import as_fit, as_tree, made_up, table_by
from tests.support.cases import each

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "saved" / "format_1.nc"
zarr_only = pytest.mark.skipif(find_spec("zarr") is None, reason="zarr is optional")


@pytest.fixture(scope="module")
def fit() -> hp.PosteriorFit:
    return made_up(hp.varying_slope("y ~ x", table_by(["a", "b", "c"]), group="g"))


@pytest.fixture(scope="module")
def saved(fit, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "fit.nc"
    fit.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def saved_zarr(fit, tmp_path_factory) -> Path:
    """The same as a folder: to be copied."""
    path = tmp_path_factory.mktemp("saved") / "fit.zarr"
    fit.save(path)
    return path


def same(fit: hp.PosteriorFit, back: hp.PosteriorFit) -> bool:
    one, other = as_tree(fit), as_tree(back)
    return one.identical(other)


def test_a_fit_of_an_older_format_is_refused_in_one_sentence():
    with pytest.raises(StorageError, match=r"too old for hierpool .*: fit the model again"):
        hp.load_fit(OLD)


# Random bytes ----------------------------------------------------------------------------------


def altered(content: bytes, seed: int) -> bytes:
    """A few bytes changed, a part cut off, left out, doubled or of zeros."""
    chance = random.Random(seed)
    whole = bytearray(content)
    start = chance.randrange(len(whole))
    length = min(chance.choice([1, 8, 512, 4096]), len(whole) - start)
    kind = chance.choice(["bytes", "bytes", "cut", "out", "double", "zeros"])
    if kind == "bytes":
        for _ in range(chance.choice([1, 4, 64])):
            whole[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
    elif kind == "cut":
        del whole[start:]
    elif kind == "out":
        del whole[start : start + length]
    elif kind == "double":
        whole[start:start] = whole[start : start + length]
    else:
        whole[start : start + length] = bytes(length)
    return bytes(whole)


def test_a_damaged_file_is_an_error_and_never_another_fit(fit, saved, tmp_path):
    path = tmp_path / "fit.nc"
    refused = 0
    for seed in range(60):
        path.write_bytes(altered(saved, seed))
        try:
            assert same(fit, hp.load_fit(path)), seed
        except StorageError:
            refused += 1
    assert refused > 40


FUZZ = """
import sys, warnings

from pathlib import Path
import hierpool as hp
from hierpool.core.errors import StorageError
from tests.fits.test_stored_attacks import altered

warnings.simplefilter("ignore")
content, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
loaded = 0
for seed in range(int(sys.argv[3]), int(sys.argv[4])):
    print(seed, file=sys.stderr, flush=True)
    path.write_bytes(altered(content, seed))
    try:
        hp.load_fit(path)
        loaded += 1
    except StorageError:
        pass
print("done", loaded)
"""


def fuzzed(content: Path, tmp_path: Path, first: int, last: int) -> None:
    """In another process: HDF5 reads these bytes, as nothing before it can tell them from ours."""
    ran = subprocess.run(
        [sys.executable, "-c", FUZZ, str(content), str(tmp_path / "x.nc"), str(first), str(last)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=1200,
    )
    assert ran.returncode == 0, (ran.returncode, ran.stderr[-1500:])
    assert ran.stdout.startswith("done")


@pytest.fixture
def unsealed(saved, tmp_path) -> Path:
    """A fit whose checksum is cut off, so that damage is left for the reader to find."""
    path = tmp_path / "unsealed.nc"
    path.write_bytes(saved[: len(saved) - len(stored_files.SEAL) - 32])
    return path


@pytest.mark.slow
def test_a_damaged_file_without_checksum_is_a_fit_or_an_error(unsealed, tmp_path):
    fuzzed(unsealed, tmp_path, 0, 25)


@pytest.mark.fuzz
def test_many_damaged_files_without_checksum_are_a_fit_or_an_error(unsealed, tmp_path):
    fuzzed(unsealed, tmp_path, 1000, 1500)


# Documents made by hand -------------------------------------------------------------------------


def document_of(content: bytes) -> dict[str, Any]:
    with h5py.File(BytesIO(content), "r") as file:
        return json.loads(file["hierpool/document"][()])


def with_document(content: bytes, text: str) -> bytes:
    buffer = BytesIO(content[: len(content) - len(stored_files.SEAL) - 32])
    with h5py.File(buffer, "a") as file:
        del file["hierpool/document"]
        file["hierpool"].create_dataset("document", data=text, dtype=h5py.string_dtype())
    return buffer.getvalue()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


WRONG: tuple[Any, ...] = (
    *(None, True, -1, 10**30, 1e308, "", "x", [], {}, [[]], [None], {"@": "Prior"}),
    *({"@": "tuple", "value": None}, {"@": "nothing"}, {"@": "slice", "value": [0, 1, 0]}),
    *({"@": "array", "value": ["S999999999", [1]]}, {"@": "decimal", "value": "x"}, "\ud800", "\0"),
)


def changed(document: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    if not path:
        return value
    whole = copy.deepcopy(document)
    inner: Any = whole
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return whole


def attacked(fit: hp.PosteriorFit, documents: list[tuple[Any, Any]]) -> int:
    """How many of these were refused; the others have to work."""
    tree = as_tree(fit)
    refused = 0
    for what, document in documents:
        own = tree["hierpool"].to_dataset(inherit=False).assign(document=((), json.dumps(document)))
        other = tree.copy()
        other["hierpool"].dataset = own
        try:
            back = as_fit(other, Path("fit.nc"))
        except StorageError:
            refused += 1
            continue
        try:
            repr(back.priors), repr(back), back.residuals(), back.random_effects()
        except HierpoolError:
            pass
        except Exception as error:
            raise AssertionError(f"loaded, and of no use: {what}") from error
    return refused


def attacks(fit: hp.PosteriorFit, n: int, seed: int) -> list[tuple[Any, Any]]:
    document = json.loads(as_tree(fit)["hierpool"]["document"].item())
    chance = random.Random(seed)
    every = [path for path in places(document) if path]
    found = []
    for _ in range(n):
        path, value = chance.choice(every), chance.choice(WRONG)
        found.append(((path, value), changed(document, path, value)))
    return found


def test_every_part_of_the_document_that_is_null_or_missing_is_refused(fit):
    document = json.loads(as_tree(fit)["hierpool"]["document"].item())
    for name in document:
        less = {k: v for k, v in document.items() if k != name}
        assert attacked(fit, [(name, less)]) == (name not in ("texts", "relationships"))
        assert attacked(fit, [(name, {**document, name: None})]) == (name != "range")
    assert attacked(fit, [("more", {**document, "more": 1})]) == 1


def test_an_altered_document_is_refused_or_gives_a_fit_that_works(fit):
    assert attacked(fit, attacks(fit, 80, 1)) > 40


@pytest.mark.fuzz
def test_many_altered_documents_are_refused_or_give_a_fit_that_works(fit):
    attacked(fit, attacks(fit, 600, 2))


@pytest.mark.slow
@each(
    "text",
    [
        *("", "null", "[]", "{}", "nonsense", "NaN", '{"spec": NaN}', '"\\ud800"', "1" * 10_000),
        *("[" * 100_000, '{"a":' * 100_000, "[" * 2000 + "]" * 2000),
    ],
    ids=lambda text: text[:12],
)
def test_text_that_is_no_document_is_refused(text, saved, tmp_path):
    (tmp_path / "fit.nc").write_bytes(with_document(saved, text))
    with pytest.raises(StorageError) as caught:
        hp.load_fit(tmp_path / "fit.nc")
    assert caught.value.code == "damaged-fit"
    assert len(str(caught.value)) < 600


def test_a_type_that_fills_the_memory_is_refused(fit):
    document = json.loads(as_tree(fit)["hierpool"]["document"].item())
    about = next(
        path for path in places(document) if path[:1] == ("columns",) and path[-1] == "dtype"
    )
    for name in ("S999999999", "U999999999", "V2000000000", "<f8,(999999999,)f8", "object; x"):
        assert attacked(fit, [(name, changed(document, about, name))]) == 1


# HDF5 made by hand ------------------------------------------------------------------------------


def external_link(file, folder):
    file["posterior/other"] = h5py.ExternalLink(str(folder / "secret.nc"), "/secret")


def soft_link(file, folder):
    file["posterior/other"] = h5py.SoftLink("/posterior/sigma")


def second_name(file, folder):
    file["posterior/other"] = file["posterior/sigma"]


def circle(file, folder):
    file["posterior/inner"] = file["posterior"]


def raw_file(file, folder):
    raw = [(str(folder / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
    file["posterior"].create_dataset("other", (4,), "f8", external=raw)


def view_of_another_file(file, folder):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(folder / "secret.nc"), "secret", (4,))
    file["posterior"].create_virtual_dataset("other", layout)


def huge_shape(file, folder):
    file["posterior"].create_dataset("other", (10**12,), "f8")


def huge_shape_in_chunks(file, folder):
    file["posterior"].create_dataset("other", (10**6, 10**6), "f8", chunks=(10, 10))


def filtered(file, folder):
    file["posterior"].create_dataset("other", data=np.zeros(1000), compression="gzip")


def references(file, folder):
    other = file["posterior"].create_dataset("other", (1,), h5py.ref_dtype)
    other[0] = file["posterior"].ref


def ragged(file, folder):
    other = file["posterior"].create_dataset("other", (2,), h5py.vlen_dtype("f8"))
    other[0] = [1.0]


def named_type(file, folder):
    file["posterior/other"] = np.dtype("f8")


def deep(file, folder):
    file.create_group("/".join("g" * 50))


HDF5_ATTACKS = (
    *(external_link, soft_link, second_name, circle, raw_file, view_of_another_file, huge_shape),
    *(huge_shape_in_chunks, filtered, references, ragged, named_type, deep),
)


@each("attack", HDF5_ATTACKS, ids=lambda attack: attack.__name__)
def test_what_hierpool_never_writes_is_refused_before_it_is_followed(attack, saved, tmp_path):
    with h5py.File(tmp_path / "secret.nc", "w") as secret:
        secret["secret"] = np.arange(4.0)
    (tmp_path / "secret.bin").write_bytes(np.arange(4.0).tobytes())
    path = tmp_path / "fit.nc"
    path.write_bytes(saved)
    with h5py.File(path, "a") as file:
        attack(file, tmp_path)
    with pytest.raises(StorageError) as caught:
        hp.load_fit(path)
    assert caught.value.code == "not-a-fit"
    assert "another kind of file" not in str(caught.value)  # it was seen what it is


def test_many_texts_that_are_one_and_the_same_in_the_file_do_not_fill_the_memory(saved, tmp_path):
    path = tmp_path / "fit.nc"
    path.write_bytes(saved)
    with h5py.File(path, "a") as file:
        file["posterior"].create_dataset("other", (2**15,), h5py.string_dtype())
        file["posterior/other"][:2] = "x" * 10**6
    content = bytearray(path.read_bytes())
    with h5py.File(path, "r") as file:
        place = file["posterior/other"].id.get_offset()
    content[place : place + 16 * 2**15] = content[place : place + 16] * 2**15
    path.write_bytes(content)
    with pytest.raises(StorageError, match="larger than the file"):
        hp.load_fit(path)


def test_the_checksum_finds_one_changed_bit_in_the_draws(saved, tmp_path):
    whole = bytearray(saved)
    with h5py.File(BytesIO(saved), "r") as file:
        whole[file["posterior/sigma"].id.get_offset() + 3] ^= 1
    (tmp_path / "fit.nc").write_bytes(whole)
    with pytest.raises(StorageError, match="checksum is wrong"):
        hp.load_fit(tmp_path / "fit.nc")


# Zarr made by hand ------------------------------------------------------------------------------


@zarr_only
def test_a_store_of_zarr_2_with_a_pickle_filter_is_refused_and_runs_nothing(tmp_path):
    class Command:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    import pickle

    store = tmp_path / "fit.zarr"
    (store / "posterior" / "x").mkdir(parents=True)
    (store / ".zgroup").write_text('{"zarr_format": 2}')
    (store / "posterior" / ".zgroup").write_text('{"zarr_format": 2}')
    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None}
    array |= {"fill_value": None, "order": "C", "filters": [{"id": "pickle", "protocol": 5}]}
    (store / "posterior" / "x" / ".zarray").write_text(json.dumps(array))
    (store / "posterior" / "x" / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["d"]}')
    (store / "posterior" / "x" / "0").write_bytes(pickle.dumps(np.array([Command()], object)))
    with pytest.raises(StorageError, match="Zarr version 2"):
        hp.load_fit(store)
    assert not (tmp_path / "ran").exists()


ZARR_ATTACKS: dict[str, Any] = {
    "another codec": lambda about: about["codecs"].append({"name": "numcodecs.pickle"}),
    "another codec before": lambda about: about["codecs"].insert(0, {"name": "numcodecs.pickle"}),
    "a codec with a word more": lambda about: about["codecs"][0].update(x=1),
    "huge": lambda about: about.update(shape=[2**30] * len(about["shape"])),
    "shape that is negative": lambda about: about.update(shape=[-1]),
    "chunks of nothing": lambda about: about["chunk_grid"]["configuration"].update(
        chunk_shape=[0] * len(about["shape"])
    ),
    "a transformer": lambda about: about.update(storage_transformers=[{"name": "x"}]),
    "objects": lambda about: about.update(data_type="object"),
    "version 2": lambda about: about.update(zarr_format=2),
}


@zarr_only
@each("attack", ZARR_ATTACKS)
def test_zarr_as_hierpool_never_writes_it_is_refused(attack, saved_zarr, tmp_path):
    shutil.copytree(saved_zarr, tmp_path / "fit.zarr")
    file = tmp_path / "fit.zarr" / "posterior" / "beta" / "zarr.json"
    about = json.loads(file.read_text())
    ZARR_ATTACKS[attack](about)
    file.write_text(json.dumps(about))
    with pytest.raises(StorageError, match=r"not-a-fit"):
        hp.load_fit(tmp_path / "fit.zarr")


@zarr_only
def test_a_zarr_folder_with_a_link_or_a_bomb_is_refused(fit, tmp_path):
    fit.save(tmp_path / "fit.zarr")
    shutil.copytree(tmp_path / "fit.zarr", tmp_path / "bomb.zarr")
    chunk = next((tmp_path / "bomb.zarr" / "posterior" / "beta" / "c").rglob("0"))
    chunk = next(p for p in [chunk, *chunk.rglob("*")] if p.is_file())
    chunk.write_bytes(b"\x28\xb5\x2f\xfd\xe0" + (2**40).to_bytes(8, "little") + b"\x01\0\0")
    with pytest.raises(StorageError, match="is not a chunk"):
        hp.load_fit(tmp_path / "bomb.zarr")
    inner = tmp_path / "fit.zarr" / "zarr.json"
    inner.rename(tmp_path / "elsewhere.json")
    inner.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(StorageError, match="a link"):
        hp.load_fit(tmp_path / "fit.zarr")


@zarr_only
def test_an_older_zarr_is_named_with_what_to_type(fit, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "version", lambda name: "3.0.8")
    with pytest.raises(MissingPackageError, match=r'3\.0\.8.*pip install -U "hierpool\[zarr\]"'):
        fit.save(tmp_path / "fit.zarr")
