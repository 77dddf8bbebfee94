"""Groups are called by the name of their column where that is a word, else groups."""

from __future__ import annotations

from hierpool.core.group_nouns import called, counted, noun, nouns

ONE_AND_MANY = {
    "boar": ("boar", "boars"),
    "Subject": ("subject", "subjects"),
    "Batch": ("batch", "batches"),
    "county": ("county", "counties"),
    "countries": ("country", "countries"),
    "schools": ("school", "schools"),
    "classes": ("class", "classes"),
    "childid": ("child", "children"),
    "child_id": ("child", "children"),
    "patient.id": ("patient", "patients"),
    "field_plot": ("field plot", "field plots"),
    "species": ("species", "species"),
    "virus": ("virus", "viruses"),
    "subj": ("subject", "subjects"),
    "people": ("person", "people"),
    "grid": ("grid", "grids"),
}


def test_a_word_is_the_noun_and_has_a_plural():
    found = {factor: (noun(factor), nouns(factor)) for factor in ONE_AND_MANY}
    assert found == ONE_AND_MANY


def test_what_is_no_word_is_a_group():
    others = [
        "g",
        "id",
        "ID",
        "x1",
        "a/b",
        "schid",
        "GRP",
        "Länder ",
        "_",
        "group",
        "grp",
    ]
    assert {factor: noun(factor) for factor in others} == dict.fromkeys(others, "group")


def test_counts_and_labels():
    assert counted(1, "county") == "1 county"
    assert counted(85, "county") == "85 counties"
    assert called("Subject", 332) == "subject 332"
    assert called("id", 86) == "id 86"
