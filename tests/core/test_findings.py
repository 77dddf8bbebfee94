"""Findings sort, print and escape what users called their columns."""

from __future__ import annotations

import pandas as pd

from hierpool.core.findings import NOTHING, Finding, Findings

NOTE = Finding("few-rows", "note", "with 9 rows little can be said.")
PROBLEM = Finding("x", "problem", "<b>bold</b>", "Do <i>this</i>.", "varying_slope")
WARNING = Finding("w", "warning", "so and so.", evidence=pd.DataFrame({"a": [1]}))


def test_the_worst_come_first_and_the_rest_keeps_its_order():
    found = Findings([NOTE, WARNING, PROBLEM, Finding("n", "note", "later.")])
    assert found.codes == ["x", "w", "few-rows", "n"]
    assert found.worst == "problem"
    assert found.of("w") == (WARNING,)
    assert list(found.table.columns) == ["severity", "code", "about", "text", "meaning"]
    assert found.table["about"].tolist() == ["varying_slope", "", "", ""]


def test_none_says_so():
    assert repr(Findings()) == NOTHING
    assert NOTHING in Findings()._repr_html_()
    assert Findings().worst is None
    assert Findings().table.empty


def test_sentences_print_and_their_html_is_shown_not_run():
    assert repr(Findings([NOTE])) == "note: with 9 rows little can be said."
    assert str(PROBLEM) == "problem: varying_slope: <b>bold</b> Do <i>this</i>."
    html = Findings([PROBLEM])._repr_html_()
    assert "<b>bold</b>" not in html
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert "<i>" not in html


def test_evidence_does_not_make_two_findings_different():
    other = Finding("w", "warning", "so and so.", evidence=pd.DataFrame({"a": [2]}))
    assert len({WARNING, other}) == 1
