"""docs/errors.md and the source name the same codes, and every example raises its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import HierpoolError
from tests.house.sources import ROOT, trees
from tests.support.cases import each

PAGE = ROOT / "docs" / "errors.md"
FINDINGS = "Findings"  # the section of the page whose codes are those of findings
PARAGRAPH = re.compile(r"^### (?P<code>\S+)\n(?P<body>.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```python(?P<info>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Paragraph:
    """One code of the page: its words, its example, and whether the example can be run here."""

    code: str
    words: str
    example: str
    info: str


def every(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    for file, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield file, node


@cache
def positions() -> dict[str, int]:
    """Name of a class or function that takes ``code: str`` -> its position among the arguments."""
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
        if position is not None and node.name != "__init__":
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
def sections() -> dict[str, list[Paragraph]]:
    _, *parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        part.partition("\n")[0]: [_paragraph(m) for m in PARAGRAPH.finditer(part)] for part in parts
    }


def _paragraph(match: re.Match[str]) -> Paragraph:
    fences = list(FENCE.finditer(match["body"]))
    words = FENCE.sub("", match["body"]).strip()
    text, info = (fences[0]["text"], fences[0]["info"].strip()) if fences else ("", "missing")
    return Paragraph(match["code"], words, text, info)


def of_errors() -> list[Paragraph]:
    return [p for name, page in sections().items() if name != FINDINGS for p in page]


def test_every_code_that_is_raised_has_a_paragraph():
    written = {p.code for p in of_errors()}
    missing = {code: place for code, place in raised().items() if code not in written}
    assert missing == {}


def test_every_paragraph_is_of_a_code_that_is_raised():
    assert {p.code for p in of_errors()} - set(raised()) == set()


def test_findings_of_the_page_are_those_of_the_source():
    assert {p.code for p in sections()[FINDINGS]} == found()


def test_no_code_has_two_paragraphs():
    codes = [p.code for page in sections().values() for p in page]
    assert len(codes) == len(set(codes))


def test_reading_finds_codes_behind_helpers():
    assert {"bar-in-call", "two-tildes", "design-changed", "missing-tilde"} <= set(raised())


def test_every_paragraph_has_words_and_an_example():
    thin = {p.code for p in of_errors() if len(p.words) <= 20 or p.info not in {"", "no-run"}}
    assert thin == set()
    unexplained = {p.code for p in of_errors() if p.info and "not run" not in p.words}
    assert unexplained == set(), "say why the example is not run"


@each("paragraph", [p for p in of_errors() if not p.info], ids=lambda p: p.code)
@pytest.mark.filterwarnings("ignore::hierpool.core.errors.HierpoolWarning")
def test_every_example_raises_its_code(paragraph, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"hp": hp, "pd": pd, "boars": hp.datasets.load("boars")}
    with pytest.raises(HierpoolError) as caught:
        exec(compile(paragraph.example, f"{PAGE.name}: {paragraph.code}", "exec"), names)
    assert caught.value.code == paragraph.code
    assert str(caught.value).endswith(f"[{paragraph.code}]")


def test_every_example_that_is_not_run_is_python():
    for paragraph in of_errors():
        if paragraph.info:
            ast.parse(paragraph.example, paragraph.code)
