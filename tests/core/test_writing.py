"""What is there survives every failure: on disks that are really full, not with raised errors."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hierpool.core.errors import StorageError
from hierpool.core.writing import (
    check_file,
    check_folder,
    make_folder,
    write_file,
    write_folder,
    write_text,
)

ROOT = Path(__file__).parents[2]
OLD, NEW = b"the old page", b"n" * 300_000
posix_only = pytest.mark.skipif(os.name == "nt", reason="limits and permissions of POSIX")
as_user = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere"
)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """A file system of 64 kB, with an old file and an old folder on it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = None
    if sys.platform == "linux" and os.geteuid() == 0:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True
        )
    if mounted is None or mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        (disk / "page.html").write_bytes(OLD)
        (disk / "fit.zarr").mkdir()
        (disk / "fit.zarr" / "zarr.json").write_bytes(OLD)
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_on_a_full_disk_stays_as_it_was(full_disk):
    with pytest.raises(StorageError, match=r"no space left.*What was there is unchanged") as caught:
        write_file(full_disk / "page.html", NEW)
    assert caught.value.code == "cannot-write"
    assert (full_disk / "page.html").read_bytes() == OLD
    assert names(full_disk) == ["fit.zarr", "page.html"]


def test_a_folder_on_a_full_disk_stays_as_it_was(full_disk):
    with pytest.raises(StorageError, match="no space left"):
        write_folder(full_disk / "fit.zarr", {"zarr.json": b"new", "a/c/0": NEW})
    assert (full_disk / "fit.zarr" / "zarr.json").read_bytes() == OLD
    assert names(full_disk) == ["fit.zarr", "page.html"]
    assert names(full_disk / "fit.zarr") == ["zarr.json"]


@pytest.mark.slow
@posix_only
def test_every_kind_of_file_survives_a_limit_on_its_size(tmp_path):
    """In another process, which has to live on: HDF5 used to end it."""
    ran = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
    )
    assert (ran.returncode, ran.stdout) == (0, "survived\n"), ran.stderr


LIMITED = """
import resource, sys
from importlib.util import find_spec
from pathlib import Path
sys.path.insert(0, "tests/fits")
import pandas as pd
import hierpool as hp
from hierpool.core.errors import StorageError
from hierpool.core.writing import write_text
from hierpool.plots.sheet.layout import sheet
from test_storage import made_up, table_by

folder = Path(sys.argv[1])
fit = made_up(hp.varying_intercept("y ~ x", table_by(["a", "b", "c"]), group="g"))
picture = sheet("A title", 2)
ways = {
    "fit.nc": fit.save,
    "page.html": lambda path: write_text(path, "n" * 5000),
    "picture.png": picture.savefig,
    "picture.pdf": picture.savefig,
}
if find_spec("zarr") is not None:
    ways["fit.zarr"] = fit.save
for name, write in ways.items():
    write(folder / name)
    (folder / f"{name}.partial").write_text("the user's own")

def everything():
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

before = everything()
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for name, write in ways.items():
    try:
        write(folder / name)
    except StorageError as error:
        assert error.code == "cannot-write", error
        assert "file too large" in str(error), error
    else:
        raise AssertionError(f"{name} was written")
    assert everything() == before, name
print("survived")
"""


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    target = tmp_path / "page.html"
    for content in (OLD, NEW):
        assert write_file(target, content) == target
        assert target.read_bytes() == content
    assert names(tmp_path) == ["page.html"]


def test_a_folder_is_replaced_with_all_that_is_in_it(tmp_path):
    target = tmp_path / "fit.zarr"
    write_folder(target, {"zarr.json": OLD, "old/0": OLD})
    write_folder(target, {"zarr.json": NEW})
    assert names(target) == ["zarr.json"]
    assert names(tmp_path) == ["fit.zarr"]


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, OSError])
def test_the_old_folder_steps_back_where_the_new_one_cannot_take_its_place(
    stopped, tmp_path, monkeypatch
):
    write_folder(tmp_path / "fit.zarr", {"zarr.json": OLD})
    move, moves = os.replace, []

    def second_fails(*args):
        moves.append(args)
        if len(moves) == 2:
            raise stopped
        move(*args)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises((StorageError, KeyboardInterrupt)):
        write_folder(tmp_path / "fit.zarr", {"zarr.json": NEW})
    assert (tmp_path / "fit.zarr" / "zarr.json").read_bytes() == OLD
    assert names(tmp_path) == ["fit.zarr"]


@posix_only
def test_permissions_are_those_of_any_new_file_and_of_the_old_one(tmp_path):
    (tmp_path / "plain").write_bytes(OLD)
    write_file(tmp_path / "new", NEW)
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "new").chmod(0o640)
    write_file(tmp_path / "new", NEW)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@posix_only
def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "page.html").write_bytes(OLD)
    (tmp_path / "page.html").symlink_to(tmp_path / "real" / "page.html")
    write_file(tmp_path / "page.html", NEW)
    assert (tmp_path / "page.html").is_symlink()
    assert (tmp_path / "real" / "page.html").read_bytes() == NEW


@posix_only
def test_a_device_is_written_to_and_stays(tmp_path):
    write_file("/dev/null", NEW)
    assert Path("/dev/null").is_char_device()


def test_text_that_utf8_cannot_hold_is_written_as_its_escape(tmp_path):
    write_text(tmp_path / "page.txt", "Zoë \ud800")
    assert (tmp_path / "page.txt").read_text(encoding="utf-8") == "Zoë \\ud800"


def test_places_that_cannot_be_written_are_told_before_the_work(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(OLD)
    told = [
        (check_file, "folder", "in-the-way", "is a folder"),
        (check_folder, "file", "in-the-way", "is a file"),
        (check_file, "nowhere/page.html", "no-folder", "the folder .* does not exist"),
        (check_folder, "nowhere/fit.zarr", "no-folder", "the folder .* does not exist"),
        (check_file, "file/page.html", "no-folder", "the folder .* does not exist"),
        (make_folder, "file", "no-folder", "file exists"),
        (make_folder, "file/inner", "no-folder", "not a directory"),
        (make_folder, "a\0b", "no-folder", "null"),
    ]
    for check, name, code, words in told:
        with pytest.raises(StorageError, match=words) as caught:
            check(tmp_path / name)
        assert caught.value.code == code


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", "\ud800"])
def test_a_name_that_no_file_can_have_is_told_in_one_sentence(name, tmp_path):
    with pytest.raises(StorageError) as caught:
        write_file(tmp_path / name, NEW)
    assert caught.value.code == "cannot-write"
    assert names(tmp_path) == []


def test_a_name_as_long_as_names_may_be_is_written(tmp_path):
    write_file(tmp_path / ("n" * 255), NEW)
    assert names(tmp_path) == ["n" * 255]


@as_user
def test_write_protected_files_and_folders_are_told_before_the_work(tmp_path):
    (tmp_path / "page.html").write_bytes(OLD)
    (tmp_path / "page.html").chmod(0o444)
    with pytest.raises(StorageError, match="write-protected"):
        check_file(tmp_path / "page.html")
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(StorageError, match="write-protected"):
            check_file(tmp_path / "other.html")
        with pytest.raises(StorageError, match="write-protected"):
            make_folder(tmp_path)
    finally:
        tmp_path.chmod(0o755)
