"""Tables from files: read where they can be read in one way, refused where in several."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hierpool as hp
from hierpool.core.errors import HierpoolError, MissingPackageError
from hierpool.formula.files import Read, read_table
from tests.support.cases import each

TRUE = pd.DataFrame({"Größe": [249.56, 258.7, 1250.8], "Tag": [0, 1, 2], "Tier": ["a", "b", "a"]})
GERMAN = "Größe;Tag;Tier\n249,56;0;a\n258,7;1;b\n1250,8;2;a\n"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(content: str | bytes, name: str = "t.csv", **how) -> Read:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(Path(name), **how)


def refused(content: str | bytes, **how) -> HierpoolError:
    with pytest.raises(HierpoolError) as caught:
        read(content, **how)
    return caught.value


@each(
    ("content", "assumed"),
    [
        ("Größe,Tag,Tier\n249.56,0,a\n258.7,1,b\n1250.8,2,a\n", []),
        ("Größe,Tag,Tier\n249.56,0,a\n258.7,1,b\n1250.8,2,a\n".encode("utf-8-sig"), []),
        ("Größe,Tag,Tier\r\n249.56,0,a\r\n258.7,1,b\r\n1250.8,2,a\r\n\r\n", []),
        ("Größe\tTag\tTier\n249.56\t0\ta\n258.7\t1\tb\n1250.8\t2\ta\n", ["tabs"]),
        ("Größe|Tag|Tier\n249.56|0|a\n258.7|1|b\n1250.8|2|a\n", ["bars"]),
        (GERMAN, ["semicolons", "decimal commas in 'Größe' (249,56 is 249.56)"]),
        (GERMAN.encode("utf-8-sig"), ["semicolons", "decimal commas"]),
        (GERMAN.encode("cp1252"), ["Windows-1252 ('Größe')", "semicolons", "decimal commas"]),
        (GERMAN.encode("utf-16"), ["semicolons", "decimal commas"]),
        (GERMAN.replace(";", "\t").encode("utf-16-be"), ["UTF-16", "tabs", "decimal commas"]),
        (
            'Größe,Tag,Tier\n"249,56","0,0",a\n"258,7","1,0",b\n"1250,8","2,0",a\n',
            ["decimal commas in 'Größe', 'Tag'"],
        ),
        (
            GERMAN.replace("1250,8", "1.250,8"),
            [
                "semicolons",
                "decimal commas",
                "thousands separators removed in 'Größe' (1.250,8 is 1250.8)",
            ],
        ),
        ("Lab 3,,\n,,\n" + GERMAN.replace(",", ".").replace(";", ","), ["line 3", "'Lab 3'"]),
        ("Study, day 1\n\n" + GERMAN, ["semicolons", "line 3", "'Study, day 1'", "decimal commas"]),
        (" Größe,Tag ,Tier\n249.56, 0,a\n258.7,1 ,b\n1250.8,2,a\n", ["blanks around column names"]),
        ("Größe,Tag,Tier,,\n249.56,0,a,,\n258.7,1,b,,\n1250.8,2,a,,\n,,,,\n", []),
        ("Größe,Tag,Tier\n249.56,0,a\n,,\n258.7,1,b\n1250.8,2,a\n", ["line 3 left out as empty"]),
        (
            "Größe,Tag,Tier\n249.56%,0,a\n258.7 %,1,b\n1250.8%,2,a\n",
            ["percent signs of column 'Größe' removed (249.56% is 249.56)"],
        ),
        ('Größe,Tag,Tier\n249.56,0,"a"\n"258.7",1,b\n1250.8,2,a\n', []),
    ],
)
def test_one_table_is_read_from_all_its_spellings_and_what_was_assumed_is_said(
    content, assumed, here
):
    got = read(content)
    pd.testing.assert_frame_equal(got.frame, TRUE, check_dtype=False)
    said = "; ".join(got.assumed)
    assert [words for words in assumed if words not in said] == []
    assert bool(said) == bool(assumed)


@each(
    ("content", "code", "words"),
    [
        (
            'y,g\n"1,234",a\n"2,345",b\n',
            "which-decimal",
            ["lines 2 and 3", "1234 with", "1.234 with"],
        ),
        ("y;x;g\n1,5;1.234;a\n2,5;2.345;b\n", "which-decimal", ["'x'", "1.234", "--decimal ,"]),
        ('y,g\n"1,234",a\n2.5,b\n', "which-decimal", ["two ways"]),
        (
            "y;g\n1,5;a\n2.5;b\n3,5;a\n",
            "which-decimal",
            ["commas (lines 2 and 4)", "points (line 3)"],
        ),
        ("y,mm;x,mm\n1,5;2,5\n3,5;4,5\n", "which-delimiter", ["commas or by semicolons"]),
        ("y x g\n1 2 a\n2 3 b\n", "which-delimiter", ["--delimiter ' '"]),
        ("y,x,g\n1,1,a\n2,2\n3,3,b\n", "ragged-rows", ["line 3 of t.csv has 2 cells", "have 3"]),
        ("y,x,g\n1,1,a\n2,2,b,c\n3,3,b\n", "ragged-rows", ["line 3 of t.csv has 4 cells"]),
        (
            "y,x,g\n1,1,a\n2,2,b\n3,3,b\nSource: lab\n",
            "ragged-rows",
            ["line 5 of t.csv has 1 cell,"],
        ),
        ("y,x\n1,1,a\n2,2,b\n3,3,b\n", "ragged-rows", ["header", "2 names", "3 cells"]),
        ("y,x (mm,g\n1,1\n2,2\n3,3\n", "ragged-rows", ["header", "3 names", "2 cells"]),
        ("y,x,g\nms,d,\n1,1,a\n2,2,b\n3,3,b\n", "stray-row", ["line 2", "'ms', 'd'", "'y', 'x'"]),
        ("y,g\n1,a\n2,b\n3,Total\n", "stray-row", ["line 4", "'Total'", "'g'"]),
        ('y,x,g\n1,"a,2,b\n3,4,c\n', "unreadable-file", ["line 2", "quotation mark"]),
        (b" \n\n", "unreadable-file", ["is empty"]),
        (b"y,g\n1,\0\n2,b\n", "unreadable-file", ["zero bytes"]),
        ("Größe,y\n1,2\n".encode("mac_roman"), "unknown-encoding", ["line 1", "--encoding"]),
        ("Größe,y\n1,2\n".encode("cp850"), "unknown-encoding", ["mac_roman"]),
        ("Рост,y\n1,2\n".encode("cp1251"), "unknown-encoding", ["cp1251"]),
        ("Źródło,y\n1,2\n".encode("cp1250"), "unknown-encoding", ["cp1250"]),
    ],
)
def test_what_can_be_read_in_two_ways_or_fits_no_table_is_an_error_that_names_lines(
    content, code, words, here
):
    error = refused(content)
    assert error.code == code
    assert [word for word in words if word not in str(error)] == []


@pytest.mark.parametrize(
    ("content", "how", "first"),
    [
        ('y,g\n"1,234",a\n"2,345",b\n', {"decimal": "."}, 1234),
        ('y,g\n"1,234",a\n"2,345",b\n', {"decimal": ","}, 1.234),
        ("y;x;g\n1.234;1,5;a\n2.345;2,5;b\n", {"decimal": ","}, 1234),
        ("y,mm;x,mm\n1,5;2,5\n3,5;4,5\n", {"delimiter": ";"}, 1.5),
        ("y x g\n1 2 a\n2 3 b\n", {"delimiter": " "}, 1),
        ("Größe,y\n1,2\n3,4\n".encode("mac_roman"), {"encoding": "mac_roman"}, 1),
    ],
)
def test_the_option_that_the_error_names_settles_it(content, how, first, here):
    refused(content)
    assert read(content, **how).frame.iloc[0, 0] == first


@pytest.mark.parametrize(
    ("content", "how", "words"),
    [
        ("y,g\n1.5,a\n", {"decimal": ";"}, "--decimal is ';'"),
        ("y,g\n1.5,a\n", {"decimal": ","}, "cannot be read with decimal commas (line 2)"),
        ("y,g\n1.5,a\n", {"delimiter": ";;"}, "one character"),
        ("y,g\n1.5,a\n", {"encoding": "utf-99"}, "'utf-99'"),
        ("ö,g\n1.5,a\n".encode("cp1252"), {"encoding": "utf-8"}, "not in utf-8"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(content, how, words, here):
    assert words in str(refused(content, **how))


def test_point_is_the_decimal_sign_of_a_table_without_commas_among_its_numbers(here):
    assert read("y,g\n1.234,a\n2.345,b\n").frame["y"].tolist() == [1.234, 2.345]


def test_decimal_comma_of_one_column_tells_that_of_another(here):
    got = read("y;x;g\n1,234;1,5;a\n2,345;2,5;b\n")
    assert got.frame["y"].tolist() == [1.234, 2.345]
    assert "'y', 'x'" in got.assumed[1]


def test_no_digit_of_a_number_is_lost(here):
    values = [0.1 + 0.2, 1e-300, 123456789.12345679, 5e-324, 1.7976931348623157e308]
    text = "y\n" + "\n".join(map(repr, values)) + "\n"
    assert read(text).frame["y"].tolist() == values


def test_ids_that_numbers_could_not_tell_apart_stay_text(here):
    got = read("y,id,h\n1,12345678901234567891,9007199254740993\n2,12345678901234567892,\n").frame
    assert got["id"].tolist() == ["12345678901234567891", "12345678901234567892"]
    assert got["h"].tolist()[0] == "9007199254740993"


def test_codes_with_leading_zeros_stay_text_as_labels_and_are_told_as_numbers(here):
    got = read("y,g,dose\n1,01,05\n2,02,10\n", labels=["g"])
    assert got.frame["g"].tolist() == ["01", "02"]
    assert got.frame["dose"].tolist() == [5, 10]
    assert got.assumed == ("leading zeros of column 'dose' removed ('05')",)


def test_spellings_of_missing_are_told(here):
    got = read("y,x,g\n1,-,a\nNA,2,NA\n3,.,b\nn/a,4,c\n5,#DIV/0!,-\n")
    np.testing.assert_array_equal(got.frame["x"], [np.nan, 2, np.nan, 4, np.nan])
    np.testing.assert_array_equal(got.frame["y"], [1, np.nan, 3, np.nan, 5])
    assert got.frame["g"].isna().tolist() == [False, True, False, False, False]
    assert got.assumed == (
        "'#DIV/0!', '-', '.' in column 'x' (lines 2, 4 and 6) read as missing",
        "'NA' in column 'g' read as missing",
    )


def test_text_that_is_mostly_numbers_stays_text_for_the_model_to_judge(here):
    got = read("y,x,g\n1,1,a\n2,3 (late),b\n3,2,a\n").frame
    assert got["x"].tolist() == ["1", "3 (late)", "2"]


def test_names_that_occur_twice_or_not_at_all_are_told(here):
    assert list(read("y,x,x,g\n1,2,3,a\n2,3,4,b\n").frame) == ["y", "x", "x", "g"]
    got = read(",y,g\n0,1,a\n1,2,b\n")
    assert list(got.frame) == ["Unnamed: 0", "y", "g"]
    assert got.assumed == ("columns without a name are called 'Unnamed: 0'",)


def test_truth_values_and_lines_within_quotes_are_kept(here):
    got = read('y,ok,g\n1,True,"a\nb"\n2,False,c\n').frame
    assert got["ok"].dtype == bool
    assert got["g"].tolist() == ["a\nb", "c"]


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.tsv.xz", "T.CSV", "t.csv.zip"])
def test_text_tables_are_read_by_their_suffix(name, here):
    table = pd.DataFrame({"y": [1.5, 2.5], "größe": ["a", "b,c"]})
    table.to_csv(name, sep="\t" if "tsv" in name else ",", index=False)
    got = read_table(Path(name))
    pd.testing.assert_frame_equal(got.frame, table)
    assert got.frame.attrs["hierpool"] == {"label": name}
    assert got.assumed == ()


@each("name", [n for n in hp.datasets.names() if n not in ("InstEval", "Chem97")])
def test_bundled_tables_are_read_as_pandas_reads_them(name, here):
    table = hp.datasets.load(name)
    table.to_csv("t.csv", index=False)
    pd.testing.assert_frame_equal(read_table(Path("t.csv")).frame, pd.read_csv("t.csv"))


def test_zip_of_several_files_is_refused(here):
    import zipfile

    with zipfile.ZipFile("t.csv.zip", "w") as archive:
        archive.writestr("a.csv", "y\n1\n")
        archive.writestr("b.csv", "y\n1\n")
    with pytest.raises(HierpoolError, match=r"'a.csv', 'b.csv'"):
        read_table(Path("t.csv.zip"))


needs_openpyxl = pytest.mark.skipif(
    importlib.util.find_spec("openpyxl") is None, reason="openpyxl is optional"
)


@needs_openpyxl
def test_sheet_of_a_workbook_is_read_like_a_text_table(here):
    from openpyxl import Workbook

    book = Workbook()
    sheet = book.active
    for row in (
        ["My study"],
        [],
        ["Größe", " Tag", "Tier", "when", "w"],
        [249.56, 0, "a", pd.Timestamp("2024-01-02"), "1,5"],
        [258.7, 1, "b", pd.Timestamp("2024-01-03"), "-"],
        [1250.8, 2, "a", pd.Timestamp("2024-01-04"), None],
    ):
        sheet.append(row)
    book.save("t.xlsx")
    got = read_table(Path("t.xlsx"))
    pd.testing.assert_frame_equal(got.frame[list(TRUE)], TRUE, check_dtype=False)
    assert got.frame["when"].dt.day.tolist() == [2, 3, 4]
    np.testing.assert_array_equal(got.frame["w"], [1.5, np.nan, np.nan])
    said = "; ".join(got.assumed)
    for words in (
        "row 3",
        "'My study'",
        "blanks",
        "decimal commas in 'w'",
        "'-' in column 'w' (row 5)",
    ):
        assert words in said


@needs_openpyxl
def test_sheet_is_asked_for_where_there_are_several(here):
    with pd.ExcelWriter("t.xlsx") as book:
        TRUE.to_excel(book, sheet_name="first", index=False)
        TRUE.iloc[:2].to_excel(book, sheet_name="second", index=False)
    with pytest.raises(HierpoolError, match=r"'first', 'second'.*--sheet"):
        read_table(Path("t.xlsx"))
    assert len(read_table(Path("t.xlsx"), sheet="second").frame) == 2
    with pytest.raises(HierpoolError, match="no sheet 'third'"):
        read_table(Path("t.xlsx"), sheet="third")


@needs_openpyxl
def test_workbook_that_is_none_is_refused(here):
    assert "cannot be read" in str(refused_file(b"no zip", "t.xlsx"))


def refused_file(content: bytes, name: str) -> HierpoolError:
    Path(name).write_bytes(content)
    with pytest.raises(HierpoolError) as caught:
        read_table(Path(name))
    return caught.value


def test_workbook_without_openpyxl_says_what_to_install(here, monkeypatch):
    Path("t.xlsx").touch()
    monkeypatch.setattr("hierpool.formula.files.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r'pip install "hierpool\[excel\]"'):
        read_table(Path("t.xlsx"))


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is optional")
def test_parquet_is_read(here):
    table = hp.datasets.load("Dyestuff2")
    table.to_parquet("dyes.parquet")
    pd.testing.assert_frame_equal(read_table(Path("dyes.parquet")).frame, table)
