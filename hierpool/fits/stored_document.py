"""The JSON document of a saved fit: required parts and their types.

Every class is an object of the document. What the user or an engine put in (labels of rows,
``info``, attributes) is free; everything else is as it is here, or the document is damaged.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from hierpool.core.findings import Severity
from hierpool.core.results import Word
from hierpool.core.spec import ResidualStructure

_DEEPEST = 64  # lists and objects in each other

# What a column's type may be called. Others, text of fixed width among them, could be of any size.
_NUMBER = r"[u]?int(8|16|32|64)|float(16|32|64)|bool|U?Int(8|16|32|64)|Float(32|64)|boolean"
_OBJECT = r"object|str|string|string\[(python|pyarrow)\]|category"
_TIME = r"(datetime64|timedelta64)\[(s|ms|us|ns)(, [\w/+:.-]+)?\]|period\[[\w-]+\]"
_INTERVAL = r"interval(\[[\w\[\], /+:.-]+\])?"
_ARROW = r"[\w(), \[\]<>=:/+.-]+\[pyarrow\]"
DTYPE = rf"^({_NUMBER}|{_OBJECT}|{_TIME}|{_INTERVAL}|{_ARROW})$"
_Dtype = Annotated[str, Meta(pattern=DTYPE, max_length=200)]


class _Strict(Struct, forbid_unknown_fields=True, tag_field="@"):
    pass


class _Tuple[T](_Strict, tag="tuple"):
    value: list[T]


class _Special(_Strict, tag="float"):
    value: Literal["nan", "inf", "-inf"]


_Number = float | _Special


class _Array(_Strict, tag="array"):
    value: tuple[Literal["float64", "int64", "bool"], list[_Number | bool]]


class _Slice(_Strict, tag="slice"):
    value: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)], None]


class _GroupTerm(_Strict, tag="GroupTerm"):
    columns: str
    factor: str
    covariance: str
    relationship: None = None


class _CorrelationTerm(_Strict, tag="CorrelationTerm"):
    word: str
    time: str
    factor: str
    by: str
    nugget: bool


class _ResidualTerm(_Strict, tag="ResidualTerm"):
    structure: ResidualStructure
    column: str
    correlation: _CorrelationTerm | None = None
    spread: str = ""
    scale: str = ""


class _Family(_Strict, tag="family"):
    value: Annotated[list[Any], Meta(min_length=2, max_length=3)]


class _Spec(_Strict, tag="Spec"):
    formula: str
    response: str
    population: str
    groups: _Tuple[_GroupTerm]
    grouping: str | None
    offsets: _Tuple[str]
    residual: _ResidualTerm
    family: _Family | None = None
    trials: str = ""


class _Finding(_Strict, tag="Finding"):
    code: str
    severity: Severity
    text: str
    meaning: str = ""
    about: str = ""
    evidence: None = None


class _Status(_Strict, tag="Status"):
    word: Word
    sentence: str


class _Prior(_Strict, tag="Prior"):
    family: str
    parameters: dict[str, Any]
    of: str = "sd"


class _Coding(_Strict, tag="Coding"):
    constant: _Array
    means: _Array
    scales: _Array


class _CoefficientPriors(_Strict, tag="CoefficientPriors"):
    coding: _Coding
    terms: _Tuple[str]
    priors: _Tuple[_Prior]


class _Covariance(_Strict, tag="covariance"):
    value: str


class _GroupTermPart(_Strict, tag="GroupTermPart"):
    factor: str
    name: str
    covariance: _Covariance
    coding: _Coding
    terms: _Tuple[str]
    columns: _Slice
    sd: _Tuple[_Prior]
    eta: float | None


class _UnpooledPart(_Strict, tag="UnpooledPart"):
    factor: str
    coefficients: _CoefficientPriors


class _ResidualPart(_Strict, tag="ResidualPart"):
    prior: _Prior | None
    weights: str


class _ResidualStructurePart(_Strict, tag="ResidualStructurePart"):
    words: str
    lower: _Array
    shapes_of_beta: _Array
    spread_sd: _Array
    scale: _Prior | None = None
    n_levels: int = 0


class _ScalarPart(_Strict, tag="ScalarPart"):
    name: str
    prior: _Prior
    meaning: str


class _ThresholdsPart(_Strict, tag="ThresholdsPart"):
    link: str
    n_categories: int
    prior: _Prior


class _ModelPriors(_Strict, tag="ModelPriors"):
    response: str
    population: _CoefficientPriors
    parts: _Tuple[
        _GroupTermPart
        | _UnpooledPart
        | _ResidualPart
        | _ResidualStructurePart
        | _ScalarPart
        | _ThresholdsPart
    ]
    family: _Family | None = None


class _Numbers(_Strict, tag_field="kind", tag="numbers"):
    dtype: _Dtype


class _Periods(_Strict, tag_field="kind", tag="periods"):
    dtype: _Dtype


class _Labels(_Strict, tag_field="kind", tag="labels"):
    dtype: _Dtype
    labels: list[Any]


class _Categories(_Strict, tag_field="kind", tag="categories"):
    dtype: Literal["category"]
    ordered: bool
    inner: _Numbers | _Periods | _Labels
    values: list[Any]


_Column = _Numbers | _Periods | _Labels | _Categories


class _NamedColumn(_Strict, tag="tuple"):
    value: tuple[str, _Column]


class _Index(_Strict, tag="tuple"):
    value: tuple[list[Any], Annotated[list[_Column], Meta(min_length=1)]]


class _Range(_Strict, tag="tuple"):
    value: tuple[int, int, int]


class _Relationship(Struct, forbid_unknown_fields=True):
    factor: str
    kind: Literal["pedigree", "covariance", "precision"]
    scale: float
    labels: _Column


class _Cells(Struct, forbid_unknown_fields=True):
    spec: _Spec
    atoms: list[list[str]]
    learned: dict[str, dict[str, Any]]
    numbers: list[str]
    missing: dict[str, int]
    n_read: int
    label: str
    ranges: dict[str, Annotated[list[float], Meta(min_length=4, max_length=4)]]
    sources: list[str]
    pieces: dict[str, Annotated[list[float], Meta(min_length=3)]]


class _Document(Struct, forbid_unknown_fields=True):
    spec: _Spec
    label: str
    notices: _Tuple[_Finding]
    priors: _ModelPriors
    status: _Status
    info: dict[str, Any]
    attrs: dict[str, dict[str, dict[str, Any]]]
    columns: list[_NamedColumn]
    index: _Index
    range: _Range | None
    texts: dict[str, dict[str, list[str]]] = {}
    relationships: list[_Relationship] = []
    cells: _Cells | None = None


def check_column(about: object) -> None:
    """Raise where what is said of a column is not as ``check_document`` wants it."""
    msgspec.convert(about, _Column)


def check_document(document: object) -> None:
    """Raise where a document is not as ``save`` writes it.

    Raises
    ------
    ValueError
        Says where, as a path within the document, and what stands there.
    """
    _check_depth(document)
    msgspec.convert(document, _Document)


def _check_depth(document: object) -> None:
    inside = [document]
    for _ in range(_DEEPEST):
        inside = [
            inner
            for outer in inside
            if isinstance(outer, (list, dict))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not inside:
            return
    raise ValueError(f"its parts are nested more than {_DEEPEST} deep")
