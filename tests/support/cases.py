"""One test of many cases: each is run, and those that fail are told together, each by its name.

``each`` takes what ``pytest.mark.parametrize`` takes. It is for cases that are alike and cheap, where
a test apiece would cost more than it tells; what is dear, or fails for a reason of its own, stays
parametrised. ``pytest --case TEXT`` runs those cases alone whose name holds the text.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

LONGEST = 60  # characters of a case's name
only = ""  # what a case's name must hold for it to be run; set by --case

Test = Callable[..., None]
Axis = tuple[tuple[str, ...], list[Any], Callable[[Any], str]]


def each(
    names: str | Sequence[str], values: Iterable[Any], ids: Callable[[Any], str] = str
) -> Callable[[Test], Test]:
    """Run a test for each value, one after the other; one above the other, for each combination.

    Every case has a folder ``tmp_path`` of its own, and what it changes by ``monkeypatch`` is
    changed back after it. Other fixtures are shared by the cases.
    """
    words = tuple(names.replace(" ", "").split(",")) if isinstance(names, str) else tuple(names)
    axis: Axis = words, list(values), ids

    def decorate(test: Test) -> Test:
        axes: list[Axis] = [axis, *getattr(test, "_axes", [])]
        inner: Test = getattr(test, "_one_case", test)
        taken = {word for words, _, _ in axes for word in words}
        signature = inspect.signature(inner)
        assert taken <= set(signature.parameters), f"{inner.__name__} does not take {taken}"

        @functools.wraps(inner)
        def run(**fixtures: Any) -> None:
            failed, count = [], 0
            for count, (name, arguments) in enumerate(combinations(axes), 1):
                error = failure(inner, count, {**fixtures, **arguments})
                if error is not None:
                    error.add_note(f"case: {name}")
                    failed.append((name, error))
            if not count and only:
                pytest.skip(f"no case with {only!r} in its name")
            assert count, "no cases"
            if failed:
                lines = [f"  {name}: {first_line(error)}" for name, error in failed]
                heading = f"{len(failed)} of {count} cases failed:"
                errors = [error for _, error in failed]
                raise ExceptionGroup("\n".join([heading, *lines]), errors)

        rest = [p for name, p in signature.parameters.items() if name not in taken]
        run.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
        run._axes, run._one_case = axes, inner  # type: ignore[attr-defined]
        return run

    return decorate


def combinations(axes: Sequence[Axis]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and arguments of each case that is to be run."""
    for values in itertools.product(*(values for _, values, _ in axes)):
        arguments: dict[str, Any] = {}
        labels = []
        for (words, _, ids), value in zip(axes, values, strict=True):
            several = value if len(words) > 1 else [value]
            arguments |= dict(zip(words, several, strict=True))
            labels.append(ids(value)[:LONGEST].encode("unicode_escape").decode())
        name = " | ".join(labels)
        if only in name:
            yield name, arguments


def failure(test: Test, number: int, arguments: dict[str, Any]) -> Exception | None:
    """The error in which a case ends; what pytest raises for itself is one too."""
    patch = arguments.get("monkeypatch")
    folder: Path | None = arguments.get("tmp_path")
    if folder is not None:
        arguments["tmp_path"] = folder / str(number)
        arguments["tmp_path"].mkdir()
    try:
        test(**arguments)
    except Exception as error:
        return error
    except (pytest.fail.Exception, pytest.skip.Exception) as outcome:
        return AssertionError(str(outcome)).with_traceback(outcome.__traceback__)
    finally:
        if patch is not None:
            patch.undo()
    return None


def first_line(error: Exception) -> str:
    """Kind of an error and the beginning of its message."""
    return f"{type(error).__name__}: {str(error).strip()}".splitlines()[0][:200]
