"""A table from a file: what kind it is, how its text is encoded, and its cells as columns.

Nothing is guessed in silence: what was assumed stands in ``Read.assumed``, and what could be read
in two ways is an error that says which option settles it.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from hierpool.core.errors import ArgumentError, DataError, MissingPackageError, listed, nearest
from hierpool.formula.layout import Grid, read_layout, rows_of_text
from hierpool.formula.written import read_columns_of_cells

SEPARATORS = {".csv": ",", ".txt": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET = (".parquet", ".pq")
EXCEL = (".xlsx", ".xlsm")
COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WINDOWS = "Windows-1252"
_INSIDE_WORDS = "’·-–—®"  # signs that may stand between two letters


@dataclass(frozen=True)
class Read:
    """A table as it was read.

    Attributes
    ----------
    frame
        The columns.
    assumed
        What was taken for granted to read it, a clause each; empty for a plain CSV.
    """

    frame: pd.DataFrame
    assumed: tuple[str, ...] = ()


def read_table(
    file: Path,
    *,
    delimiter: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
    labels: Sequence[str] = (),
) -> Read:
    """A table by the suffix of its file, labelled with the name of the file.

    Parameters
    ----------
    file
        CSV or TSV, compressed or not, a sheet of Excel, or Parquet.
    delimiter, decimal, encoding, sheet
        What would otherwise be recognised.
    labels
        Columns that name something: codes such as ``007`` in them stay text.

    Raises
    ------
    DataError
        There is no such file, it is of another kind, it cannot be read, or it can be read in
        more than one way.
    MissingPackageError
        Parquet without pyarrow, or Excel without openpyxl.
    """
    kind = kind_of_file(file)
    if not file.is_file():
        beside = file.parent.iterdir() if file.parent.is_dir() else []
        alike = nearest(file.name, [p.name for p in beside if p.suffix == file.suffix])
        hint = f"; {alike}" if alike.startswith("did") else "."
        raise DataError(f"there is no file {str(file)!r}{hint}", "no-such-file")
    if decimal is not None and decimal not in (".", ","):
        raise ArgumentError(f"--decimal is {decimal!r}; it can be . or ,", "unknown-choice")
    if kind in PARQUET:
        read = Read(_parquet(file))
    elif kind in EXCEL:
        read = _from_grid(_sheet(file, sheet), decimal, labels)
    else:
        text, said = _decoded(_content(file), file.name, encoding)
        grid = rows_of_text(text, file.name, delimiter, SEPARATORS[kind])
        read = _from_grid(grid, decimal, labels, said)
    read.frame.attrs["hierpool"] = {"label": file.name}
    return read


def kind_of_file(file: Path) -> str:
    """The suffix that says how to read it; that of a compression is left out."""
    name = Path(file.stem) if file.suffix.lower() in COMPRESSED else file
    kind = name.suffix.lower()
    is_plain = name is file
    if kind not in SEPARATORS and (kind not in (*PARQUET, *EXCEL) or not is_plain):
        known = ", ".join([*SEPARATORS, *EXCEL, *PARQUET])
        raise DataError(
            f"the name {file.name!r} does not show the kind of file: it should end in one of "
            f"{known}. Save another kind of spreadsheet as .xlsx or as CSV.",
            "unknown-suffix",
        )
    return kind


def _from_grid(grid: Grid, decimal: str | None, labels: Sequence[str], *said: str) -> Read:
    laid = read_layout(grid)
    frame, written = read_columns_of_cells(laid, decimal, labels)
    return Read(frame, tuple(clause for clause in (*said, *laid.assumed, *written) if clause))


def _parquet(file: Path) -> pd.DataFrame:
    _check_installed("pyarrow", file.name, "Parquet", "parquet")
    try:
        return pd.read_parquet(file, engine="pyarrow")
    except (OSError, ValueError) as error:
        raise _unreadable(file.name, error) from error


def _sheet(file: Path, sheet: str | None) -> Grid:
    """The rows of one sheet; an error where several have cells and none was chosen."""
    _check_installed("openpyxl", file.name, "a workbook of Excel", "excel")
    from zipfile import BadZipFile

    try:
        every = pd.read_excel(
            file, sheet_name=None, header=None, dtype=object, na_filter=False, engine="openpyxl"
        )
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise _unreadable(file.name, error) from error
    filled = {str(name): table for name, table in every.items() if table.size}
    if sheet is None and len(filled) == 1:
        (sheet,) = filled
    if sheet is None or sheet not in filled:
        wrong = f"no sheet {sheet!r} with cells" if sheet else f"{len(filled)} sheets with cells"
        raise DataError(
            f"{file.name} has {wrong}: {listed(filled, most=12) or 'every one is empty'}. "
            "Choose one with --sheet NAME.",
            "which-sheet",
        )
    rows = [["" if c is None else c for c in row] for row in filled[sheet].to_numpy().tolist()]
    return Grid(file.name, rows, range(1, len(rows) + 1), "row")


def _check_installed(package: str, name: str, kind: str, extra: str) -> None:
    if find_spec(package) is None:
        raise MissingPackageError(
            f"{name} is {kind}, which needs the package {package}. "
            f'Type: pip install "hierpool[{extra}]"',
            "missing-package",
        )


def _content(file: Path) -> bytes:
    """The bytes of a text table, unpacked."""
    import lzma
    import zlib
    from zipfile import BadZipFile

    try:
        return _OPENERS.get(file.suffix.lower(), bytes)(file.read_bytes())
    except (OSError, ValueError, EOFError, RuntimeError, BadZipFile) as error:
        raise _unreadable(file.name, error) from error
    except (lzma.LZMAError, zlib.error) as error:
        raise _unreadable(file.name, error) from error


def _gunzip(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data)


def _bunzip(data: bytes) -> bytes:
    import bz2

    return bz2.decompress(data)


def _unxz(data: bytes) -> bytes:
    import lzma

    return lzma.decompress(data)


def _unzip(data: bytes) -> bytes:
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
        if len(names) != 1:
            raise ValueError(f"it holds {len(names)} files, not one: {listed(names)}")
        return archive.read(names[0])


def _unzstd(data: bytes) -> bytes:
    for module in ("compression.zstd", "zstandard"):  # the first is Python's own, from 3.14 on
        try:
            loaded: Any = __import__(module, fromlist=["decompress"])
        except ImportError:
            continue
        return bytes(loaded.decompress(data))
    raise MissingPackageError(
        "a file compressed with Zstandard needs Python 3.14 or the package zstandard. "
        "Type: pip install zstandard",
        "missing-package",
    )


_OPENERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": _gunzip,
    ".bz2": _bunzip,
    ".xz": _unxz,
    ".zip": _unzip,
    ".zst": _unzstd,
}


def _unreadable(name: str, error: Exception) -> DataError:
    said = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    return DataError(
        f"{name} cannot be read as the kind of file that its name shows: {said}.", "unreadable-file"
    )


def _decoded(data: bytes, name: str, encoding: str | None) -> tuple[str, str]:
    """The text, and a clause on its encoding where that was assumed.

    A mark, UTF-8 and UTF-16 say what they are. Eight-bit encodings do not: on the few letters of a
    table charset-normalizer took German in cp1252 for cp932 and French for cp775, and chardet took
    both for Big5. So one of them is assumed, the usual one, where its letters make words, and the
    others are asked for.
    """
    if not data.strip():
        raise DataError(f"{name} is empty.", "unreadable-file")
    if encoding is not None:
        return _decoded_as(data, name, encoding), ""
    for mark, marked in _MARKS:
        if data.startswith(mark):
            return _decoded_as(data, name, marked), ""
    if b"\0" in data:
        return _without_mark(data, name)
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        return _windows(data, name, error)


def _decoded_as(data: bytes, name: str, encoding: str) -> str:
    try:
        text = data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except LookupError as error:
        raise ArgumentError(
            f"--encoding is {encoding!r}, which Python does not know; try utf-8, cp1252, cp1250, "
            "cp1251, cp850, mac_roman or utf-16",
            "unknown-choice",
        ) from error
    except UnicodeError as error:
        raise DataError(f"{name} is not in {encoding}: {error}.", "unknown-encoding") from error
    return text.removeprefix("\ufeff")


def _without_mark(data: bytes, name: str) -> tuple[str, str]:
    """UTF-16 that does not say so: of plain letters every second byte is zero."""
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = data[start::2].count(0)
        if len(data) % 2 == 0 and zeros > 0.4 * len(data) / 2 and not data[1 - start :: 2].count(0):
            return _decoded_as(data, name, encoding), "the text is UTF-16"
    raise DataError(
        f"{name} contains zero bytes, so it is not text. Save the table as CSV.", "unreadable-file"
    )


def _windows(data: bytes, name: str, error: UnicodeDecodeError) -> tuple[str, str]:
    line = data[: error.start].count(b"\n") + 1
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    words = re.findall(r"[\w’·§-]*[^\x00-\x7f][\w’·§-]*", text)
    if not text or not all(map(_is_western, words)):
        raise DataError(
            f"{name} is not in UTF-8 (line {line}), and does not read as words in {_WINDOWS} "
            "either. Save it as UTF-8, or name its encoding, e.g. --encoding cp1250 (Central "
            "Europe), cp1251 (Cyrillic), cp850 (DOS) or mac_roman.",
            "unknown-encoding",
        )
    return text, f"the text is in {_WINDOWS} ({listed(dict.fromkeys(words), most=3)})"


def _is_western(word: str) -> bool:
    """Whether a word with letters beyond ASCII looks like one of a Western language."""
    letters = [c for c in word if c.isalpha()]
    if len(letters) > 1 and not any(c.isascii() for c in letters):
        return False
    for before, letter, after in zip(f" {word}", word, f"{word} "[1:] + " ", strict=False):
        if letter.isascii():
            continue
        is_inside = before.isalpha() and after.isalpha()
        if is_inside and not letter.isalpha() and letter not in _INSIDE_WORDS:
            return False
        if before.islower() and unicodedata.category(letter) == "Lu":
            return False
        if is_inside and letter.isupper() and after.islower():
            return False
    return True
