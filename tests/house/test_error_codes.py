"""docs/errors.toml has the codes of the source; each example raises its own, and its remedy works."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import HierpoolError
from tests.house.sources import ROOT, script, trees
from tests.support.cases import each

PAGE = script(ROOT / "docs" / "errors_page.py")
FINDINGS = "Findings"  # the section of the page whose codes are those of findings
EDITED = """docs/errors.md is not what docs/errors.toml gives.
If you changed docs/errors.toml, run: python docs/errors_page.py
If you changed docs/errors.md, put your paragraph into docs/errors.toml instead, as its head says,
with an example that raises the code and what to type instead; then run the same."""


@dataclass(frozen=True)
class Entry:
    """One code of the page: its words, its example and remedy, and whether they can be run here."""

    code: str
    text: str
    example: str = ""
    instead: str = ""
    slow: bool = False
    run: bool = True


def every(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield file, node


@cache
def positions() -> dict[str, int]:
    """Name of an error, or of a function that raises with ``code: str`` -> where it takes the code."""
    bases = {"HierpoolError": ""}
    found: dict[str, int] = {}
    for _, node in every(ast.ClassDef):
        names = [base.id for base in node.bases if isinstance(base, ast.Name)]
        if names and names[0] in bases:
            bases[node.name] = names[0]
    for _, node in every(ast.ClassDef):
        for part in node.body:
            if node.name in bases and isinstance(part, ast.FunctionDef) and part.name == "__init__":
                found[node.name] = _position(part) or 0
    for name, base in bases.items():
        found.setdefault(name, found.get(base, -1))
    for _, node in every(ast.FunctionDef):
        position = _position(node)
        raises = getattr(node.returns, "id", "") == "NoReturn"  # another code may be of Python
        if position is not None and raises:
            assert found.setdefault(node.name, position) == position, node.name
    return found


def _position(function: ast.FunctionDef) -> int | None:
    arguments = [argument for argument in function.args.args if argument.arg != "self"]
    for k, argument in enumerate(arguments):
        if argument.arg == "code" and ast.unparse(argument.annotation or ast.Constant("")) == "str":
            return k
    return None


def raised() -> dict[str, str]:
    """Code of an error -> a place where it is raised."""
    out = {}
    for file, call in every(ast.Call):
        name = getattr(call.func, "id", None) or getattr(call.func, "attr", None)
        if name in positions():
            value = _argument(call, positions()[name])
            where = f"{file}:{call.lineno}"
            if isinstance(value, ast.Constant):
                out[value.value] = where
            else:  # a helper that hands on what it was given
                assert isinstance(value, ast.Name), f"{where}: a code is a literal"
                assert value.id == "code", f"{where}: a code is a literal"
    return out


def found() -> set[str]:
    """Codes of findings."""
    out = set()
    for file, call in every(ast.Call):
        if getattr(call.func, "id", "") == "Finding":
            value = _argument(call, 0)
            if isinstance(value, ast.Constant):
                out.add(value.value)
            else:  # a finding that is said again in other words
                assert isinstance(value, ast.Attribute), f"{file}:{call.lineno}: not a literal"
    return out


def _argument(call: ast.Call, position: int) -> ast.expr | None:
    named = [word.value for word in call.keywords if word.arg == "code"]
    return named[0] if named else call.args[position] if len(call.args) > position else None


@cache
def sections() -> dict[str, list[Entry]]:
    return {
        section["title"]: [Entry(code, **entry) for code, entry in section["codes"].items()]
        for section in PAGE.source()["section"]
    }


def of_errors() -> list[Entry]:
    return [e for title, entries in sections().items() if title != FINDINGS for e in entries]


def test_page_is_what_its_source_gives():
    assert PAGE.PAGE.read_text(encoding="utf-8") == PAGE.drawn(), EDITED


def test_every_code_that_is_raised_has_a_paragraph():
    written = {e.code for e in of_errors()}
    missing = {code: place for code, place in raised().items() if code not in written}
    assert missing == {}, "write its paragraph in docs/errors.toml"


def test_every_paragraph_is_of_a_code_that_is_raised():
    assert {e.code for e in of_errors()} - set(raised()) == set()


def test_findings_of_the_page_are_those_of_the_source():
    assert {e.code for e in sections()[FINDINGS]} == found()


def test_no_code_has_two_paragraphs():
    codes = [e.code for entries in sections().values() for e in entries]
    assert len(codes) == len(set(codes))


def test_reading_finds_codes_behind_helpers():
    assert {"bar-in-call", "two-tildes", "design-changed", "missing-tilde"} <= set(raised())


def test_every_paragraph_has_words_an_example_and_a_remedy():
    thin = {e.code for e in of_errors() if len(e.text) <= 20 or not e.example or not e.instead}
    assert thin == set()
    unexplained = {e.code for e in of_errors() if not e.run and "not run" not in e.text}
    assert unexplained == set(), "say why the example is not run"


def names_after(entry: Entry) -> dict[str, Any]:
    """Names that stand when the example has raised its code."""
    names = {"hp": hp, "pd": pd, "boars": hp.datasets.load("boars")}
    with pytest.raises(HierpoolError) as caught:
        exec(compile(entry.example, f"example of {entry.code}", "exec"), names)
    assert caught.value.code == entry.code
    assert str(caught.value).endswith(f"[{entry.code}]")
    return names


def typed(entry: Entry, names: dict[str, Any]) -> None:
    """Type what the page says instead."""
    exec(compile(entry.instead, f"remedy of {entry.code}", "exec"), names)
    plt.close("all")


@each("entry", [e for e in of_errors() if e.run and not e.slow], ids=lambda e: e.code)
@pytest.mark.filterwarnings("ignore::hierpool.core.errors.HierpoolWarning")
def test_every_example_raises_its_code_and_its_remedy_works(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed(entry, names_after(entry))


@pytest.mark.slow
@each("entry", [e for e in of_errors() if e.slow], ids=lambda e: e.code)
@pytest.mark.filterwarnings("ignore::hierpool.core.errors.HierpoolWarning")
def test_every_slow_example_raises_its_code_and_its_remedy_works(entry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed(entry, names_after(entry))


def test_every_example_that_is_not_run_is_python():
    for entry in of_errors():
        ast.parse(entry.example + entry.instead, entry.code)
