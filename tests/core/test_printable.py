"""Text whose characters neither act on a terminal nor hide."""

from __future__ import annotations

import unicodedata

import pytest

from hierpool.core.errors import DataError, FormulaError, HierpoolWarning, listed
from hierpool.core.findings import Finding, Findings
from hierpool.core.printable import one_line, printable
from tests.support.cases import each


@each(
    ("name", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m", r"\x9b31m"),
        ("\x00\x07\x08\x7f\r", r"\x00\x07\x08\x7f\r"),
        ("a\u202eb\u2066\u200b\ufeff", r"a\u202eb\u2066\u200b\ufeff"),
        ("\u2028\x85", r"\u2028\x85"),
        ("\udc80", r"\udc80"),
        ("\U000e0041", r"\U000e0041"),
        ("größe_ｘ µg\u00a0日本", "größe_ｘ µg\u00a0日本"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("a\\x1b", "a\\x1b"),
    ],
)
def test_characters_that_act_or_hide_are_shown_as_escapes_and_letters_stay(name, shown):
    assert printable(name) == one_line(name) == shown


def test_lines_stay_in_a_text_and_not_in_a_name():
    assert printable("a\n\tb") == "a\n\tb"
    assert one_line("a\n\tb") == r"a\n\tb"


@pytest.mark.slow
def test_every_character_of_unicode_is_harmless_after_it():
    every = "".join(map(chr, range(0x110000)))
    left = {unicodedata.category(c) for c in printable(every).replace("\u200c\u200d", "")}
    assert left & {"Cs", "Zl", "Zp", "Cf"} == set()
    assert {c for c in printable(every) if unicodedata.category(c) == "Cc"} == {"\n", "\t"}


def test_errors_warnings_and_findings_show_escapes():
    evil = "x\x1b[2J"
    for said in (
        str(DataError(f"no {evil}", "no-rows")),
        DataError(f"no {evil}", "no-rows").message,
        str(HierpoolWarning(evil)),
        str(Finding("rows-dropped", "note", evil, about=evil)),
        repr(Findings([Finding("rows-dropped", "note", evil)])),
        Findings([Finding("rows-dropped", "note", evil)])._repr_html_(),
        listed([evil, (evil, 1)]),
    ):
        assert "\x1b" not in said
        assert r"x\x1b[2J" in said


def test_caret_stands_under_the_place_when_what_is_before_it_is_shown_longer():
    text = "y ~ `a\x1b\n` + ?b"
    said = str(FormulaError("what", "unknown", text, text.index("?"), 2)).splitlines()
    assert said[1:] == [r"    y ~ `a\x1b\n` + ?b", f"    {' ' * 16}^^  [unknown]"]
    over = str(FormulaError("what", "unknown", text, text.index("a"), 3)).splitlines()
    assert over[2] == f"    {' ' * 5}{'^' * 7}  [unknown]"
