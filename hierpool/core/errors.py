"""Every exception, warning and error code of hierpool.

A message has three parts: what is wrong, in the user's own names and numbers; why it cannot be;
what to write instead. It ends in a code in brackets, and each code has a paragraph in
``docs/errors.md``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from hierpool.core.printable import one_line, printable


class HierpoolError(Exception):
    """Base of every error that hierpool raises on purpose.

    Parameters
    ----------
    message
        What is wrong, why, and what to write instead.
    code
        The error's name in ``docs/errors.md``; appended to the message in brackets.
    in_file
        The message for those who have a file and no Python, where it is another one.
    """

    def __init__(self, message: str, code: str, in_file: str = "") -> None:
        message = printable(message)
        super().__init__(f"{message}  [{code}]")
        self.message = message
        self.code = code
        self.in_file = f"{printable(in_file)}  [{code}]" if in_file else ""

    def add(self, sentence: str) -> None:
        """Put one more sentence before the code."""
        self.message = f"{self.message.rstrip('.')}. {sentence}"
        self.args = (f"{self.message}  [{self.code}]",)
        if self.in_file:
            self.in_file = (
                f"{self.in_file.removesuffix(f'  [{self.code}]')}. {sentence}  [{self.code}]"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is made again from its printed text alone, which fails here; a
        # pool that cannot read the error of a worker waits for ever.
        return _unpickled, (type(self), str(self)), self.__dict__


class DataError(HierpoolError, ValueError):
    """The data cannot be used as they are."""


class NotEstimableError(DataError):
    """Predictions or comparisons that depend on columns that the model dropped.

    Parameters
    ----------
    message, code
        As in ``HierpoolError``.
    labels
        The rows (labels of the index) or comparisons; stored as ``error.labels``.
    """

    def __init__(self, message: str, code: str, labels: Iterable[Any] = ()) -> None:
        super().__init__(message, code)
        self.labels = list(labels)


class ResponseError(DataError):
    """A cell of the response that its family cannot take.

    Parameters
    ----------
    message, after
        The message, around the words for the row: ``"'y' is -1"`` and ``", which is negative"``.
    code
        As in ``HierpoolError``.
    place
        Position among the rows used; stored as ``error.place``.
    """

    def __init__(self, message: str, code: str, after: str = "", place: int = 0) -> None:
        super().__init__(f"{message}{after}", code)
        self.place = place
        self._parts = message, after, code

    def in_rows(self, rows: str) -> DataError:
        """The same with words for the rows, as the index of the table has them: ``"row 7"``."""
        before, after, code = self._parts
        return DataError(f"{before} in {rows}{after}", code)


class StorageError(DataError):
    """A file cannot be written, or a saved fit is damaged and cannot be read."""


class FormulaError(HierpoolError, ValueError):
    """The formula cannot be read; carries the position and draws a caret under it.

    Parameters
    ----------
    message
        What is wrong.
    code
        The error's name.
    text
        The formula as the user typed it.
    position
        Index in ``text`` of the offending character, or None where no single place is to blame.
    length
        How many characters the caret line covers.
    hint
        What to write instead; printed after the caret.
    """

    def __init__(
        self,
        message: str,
        code: str,
        text: str = "",
        position: int | None = None,
        length: int = 1,
        hint: str = "",
    ) -> None:
        self.text, self.position = text, position
        if position is not None:
            before, under = (len(one_line(t)) for t in (text[:position], text[position:][:length]))
            caret = " " * before + "^" * max(length, under, 1)
            message = f"{message}\n    {one_line(text)}\n    {caret}"
        if hint:
            message = f"{message}\n{hint}"
        super().__init__(message, code)


class UnsupportedModelError(HierpoolError, ValueError):
    """The model is valid, but this engine or function does not support it."""


class NoMethodError(UnsupportedModelError, AttributeError):
    """A method of a posterior, asked of a REML, ML or least-squares fit."""


class PriorError(HierpoolError, ValueError):
    """A prior is unknown, misnamed, improper or has the wrong support."""


class ArgumentError(HierpoolError, TypeError):
    """An argument is unknown, or has a value that is not allowed."""


class ComparisonError(HierpoolError, ValueError):
    """The fits cannot be compared, because their rows or responses differ."""


class MissingPackageError(HierpoolError, ImportError):
    """An optional package is needed and not installed."""


class FitError(HierpoolError, RuntimeError):
    """The draws of a fit are unreliable. ``error.fit`` contains the fit."""

    def __init__(self, message: str, code: str, fit: object = None) -> None:
        super().__init__(message, code)
        self.fit = fit


class StudyInterrupted(KeyboardInterrupt):
    """A study was interrupted; ``study`` holds the models that had been fitted.

    An interrupt like any other, so that a loop or a script stops; nothing that was done is lost.
    """

    def __init__(self, study: Any) -> None:
        super().__init__(
            f"{study.sentence}. To keep them: import sys; kept = sys.last_value.study; "
            "kept.fits holds them, and kept.save('folder') writes them"
        )
        self.study = study


class HierpoolWarning(UserWarning):
    """A warning about results, issued once, with the number of cases and the worst by name."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def _unpickled(kind: type[HierpoolError], text: str) -> HierpoolError:
    error = kind.__new__(kind)
    error.args = (text,)
    return error


def nearest(name: object, choices: Iterable[object]) -> str:
    """Words that point at the nearest of ``choices``, or the whole list where none is near.

    Examples
    --------
    >>> nearest("tyme", ["time", "volume"])
    "did you mean 'time'?"
    >>> nearest("zzz", ["time", "volume"])
    "there are 'time', 'volume'"
    """
    names = [str(c) for c in choices]
    folded = {n.casefold(): n for n in reversed(names)}
    hit = difflib.get_close_matches(str(name).casefold(), list(folded), n=1, cutoff=0.6)
    if hit:
        return f"did you mean {folded[hit[0]]!r}?"
    if len(names) == 1:
        return f"there is only {listed(names)}"
    return f"there are {listed(names)}" if names else "there are none"


def listed(names: Iterable[object], most: int = 6) -> str:
    """Names in quotes with commas, cut after ``most`` with the number left out.

    Examples
    --------
    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b' and 1 more"
    """
    every = [repr(str(n)) if isinstance(n, str) else one_line(str(n)) for n in names]
    if len(every) <= most:
        return ", ".join(every)
    return f"{', '.join(every[:most])} and {len(every) - most} more"
