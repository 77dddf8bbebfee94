"""Files and folders written whole or not at all.

Everything that hierpool writes passes through here. The bytes are made in memory first, go to a
file of a name that nobody has in the same folder, are flushed to the disk, and are moved into
place. Whatever fails before the move, a full disk for one, leaves what was there as it was.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from hierpool.core.errors import StorageError

_CANNOT_FLUSH = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}  # of some network file systems
_O_BINARY = getattr(os, "O_BINARY", 0)  # Windows


def make_folder(folder: str | PathLike[str], hint: str = "") -> Path:
    """The folder, made with those above it where it is missing.

    Parameters
    ----------
    folder
        Where.
    hint
        What an error says to do instead.

    Raises
    ------
    StorageError
        It cannot be made, or nothing can be written in it.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise StorageError(
            f"the folder {str(path)!r} cannot be made: {_reason(error)}. {hint}".rstrip(),
            "no-folder",
        ) from error
    _check_access(path, hint)
    return path


def check_file(path: str | PathLike[str]) -> Path:
    """The path, if a file can be written there; asked before the work that makes its content.

    Raises
    ------
    StorageError
        Its folder does not exist, a folder stands in its place, or it is write-protected.
    """
    target = Path(path)
    with storage_errors(target):
        if target.is_dir():
            raise StorageError(
                f"{str(target)!r} is a folder. Give the name of a file.",
                "in-the-way",
            )
        _check_parent(target)
        if _is_special(target):
            return target
        if target.exists() and not os.access(target, os.W_OK):
            raise _failed(target, "it is write-protected")
    return target


def check_folder(path: str | PathLike[str]) -> Path:
    """The path, if ``write_folder`` can write there; asked before the work.

    Raises
    ------
    StorageError
        Its folder does not exist or is write-protected, or a file stands in its place.
    """
    target = Path(path)
    with storage_errors(target):
        if target.exists() and not target.is_dir():
            raise StorageError(
                f"{str(target)!r} is a file. Give the name of a folder.",
                "in-the-way",
            )
        _check_parent(target)
    return target


def write_file(path: str | PathLike[str], content: bytes | memoryview) -> Path:
    """Write a file, or leave what is there as it is; gives the path back.

    Parameters
    ----------
    path
        Where. A link is followed; a device or a pipe is written to directly.
    content
        All of it.

    Raises
    ------
    StorageError
        It cannot be written; the message says why.
    """
    target = check_file(path)
    with storage_errors(target):
        if _is_special(target):
            target.write_bytes(content)
            return target
        place = Path(os.path.realpath(target))
        partial = _unused(place)
        try:
            _fill(partial, content)
            if place.exists():
                shutil.copymode(place, partial)
            os.replace(partial, place)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _flush_folder(place.parent)
    return target


def write_text(path: str | PathLike[str], text: str) -> Path:
    r"""Write a file of text in UTF-8, as ``write_file`` does.

    Half of a surrogate pair, which UTF-8 cannot hold, is written as its escape, ``\ud800``.
    """
    return write_file(path, text.encode("utf-8", errors="backslashreplace"))


def file_names(names: Iterable[str]) -> dict[str, str]:
    """A name for a file for each name of a model, without the signs that file systems refuse.

    Examples
    --------
    >>> file_names(["varying_slope", "(x | g)", "(x || g)"])
    {'varying_slope': 'varying_slope', '(x | g)': 'x_g', '(x || g)': 'x_g_2'}
    """
    given: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name).strip("_.") or "model"
        taken, made, k = set(given.values()), plain, 1
        while made in taken:
            k += 1
            made = f"{plain}_{k}"
        given[name] = made
    return given


def write_folder(path: str | PathLike[str], files: Mapping[str, bytes]) -> Path:
    """Write a folder of files, in place of the one that is there; gives the path back.

    The folder is written beside the old one. The old one steps aside, the new one takes its place,
    and only then is the old one removed; where the second step fails, it steps back.

    Parameters
    ----------
    path
        Where.
    files
        Path within the folder, with ``/`` -> content.

    Raises
    ------
    StorageError
        It cannot be written; the message says why.
    """
    target = check_folder(path)
    with storage_errors(target):
        place = Path(os.path.realpath(target))
        partial, aside = _unused(place), _unused(place)
        try:
            for name, content in files.items():
                file = partial / name
                file.parent.mkdir(parents=True, exist_ok=True)
                _fill(file, content)
            _swap(partial, place, aside)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)
        _flush_folder(place.parent)
    return target


def _swap(partial: Path, place: Path, aside: Path) -> None:
    was_there = place.exists()
    if was_there:
        os.replace(place, aside)
    try:
        os.replace(partial, place)
    except BaseException:
        if was_there:
            os.replace(aside, place)
        raise


def _fill(file: Path, content: bytes | memoryview) -> None:
    """A new file, on the disk when this returns. It has the permissions that any new file has."""
    number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o666)
    with os.fdopen(number, "wb") as stream:
        stream.write(content)
        stream.flush()
        _flush(stream.fileno())


def _flush(number: int) -> None:
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise


def _flush_folder(folder: Path) -> None:
    """The move itself on the disk, where the system can do that."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _unused(place: Path) -> Path:
    """A name beside ``place`` that nobody has; short, so that a long name has room for it."""
    return place.with_name(f".hierpool-{secrets.token_hex(8)}.tmp")


def _is_special(target: Path) -> bool:
    return target.exists() and not target.is_file() and not target.is_dir()


def _check_parent(target: Path) -> None:
    if not target.parent.is_dir():
        raise StorageError(
            f"the folder {str(target.parent)!r} does not exist, so {target.name!r} cannot be "
            "written. Make the folder first.",
            "no-folder",
        )
    if not _is_special(target):
        _check_access(Path(os.path.realpath(target)).parent)


def _check_access(folder: Path, hint: str = "") -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(
            f"the folder {str(folder)!r} is write-protected. {hint}".rstrip(),
            "cannot-write",
        )


@contextmanager
def storage_errors(target: Path) -> Iterator[None]:
    """An error of the system in one sentence."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        raise _failed(target, _reason(error)) from error


def _failed(target: Path, reason: str) -> StorageError:
    kept = " What was there is unchanged." if os.path.lexists(_plain(target)) else ""
    return StorageError(
        f"{str(target)!r} cannot be written: {reason}.{kept}",
        "cannot-write",
    )


def _plain(target: Path) -> Path:
    """A path that can be asked for; one with a null byte cannot."""
    try:
        os.fsencode(target)
    except ValueError:
        return Path("\ufffd")
    return Path("\ufffd") if "\0" in str(target) else target


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error).rstrip(".") or type(error).__name__
