"""Values of a fit as plain JSON data, and back; dataclasses, tuples, arrays and dates carry a tag."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from hierpool.bayes.parts.group_term import GroupTermPart
from hierpool.bayes.parts.residual import ResidualPart
from hierpool.bayes.parts.residual_structure import ResidualStructurePart
from hierpool.bayes.parts.scalar import ScalarPart
from hierpool.bayes.parts.thresholds import ThresholdsPart
from hierpool.bayes.parts.unpooled import UnpooledPart
from hierpool.bayes.priors.coefficients import CoefficientPriors
from hierpool.bayes.priors.model_priors import ModelPriors
from hierpool.bayes.priors.prior import Prior
from hierpool.core.coding import Coding
from hierpool.core.covariance import COVARIANCES, Covariance
from hierpool.core.families.family import Family
from hierpool.core.families.table import FAMILIES
from hierpool.core.findings import Finding
from hierpool.core.results import Status
from hierpool.core.spec import CorrelationTerm, GroupTerm, ResidualTerm, Spec

_TAG = "@"
_OF_ARRAY = re.compile(r"u?int\d\d?|float\d\d|bool|object|<U\d{1,4}")  # "S9999999999" fills memory
_NOUNS: dict[str, Any] = {
    noun.__name__: noun
    for noun in (
        Spec,
        GroupTerm,
        CorrelationTerm,
        ResidualTerm,
        Finding,
        Status,
        Prior,
        Coding,
        CoefficientPriors,
        ResidualPart,
        ResidualStructurePart,
        GroupTermPart,
        UnpooledPart,
        ScalarPart,
        ThresholdsPart,
        ModelPriors,
    )
}
_NAMES = {noun: name for name, noun in _NOUNS.items()}


def encode(value: Any) -> Any:
    """Plain data of JSON; tuples, nouns, arrays and dates become objects with a tag."""
    if value is None or isinstance(value, (bool, str)):
        return value if value is None or isinstance(value, bool) else str(value)
    if isinstance(value, np.datetime64):
        value = pd.Timestamp(value)
    elif isinstance(value, np.generic):
        return encode(value.item())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if np.isfinite(value) else {_TAG: "float", "value": str(value)}
    if isinstance(value, list):
        return [encode(v) for v in value]
    if isinstance(value, Mapping):
        if _TAG not in value and all(isinstance(k, str) for k in value):
            return {str(k): encode(v) for k, v in value.items()}
        return {_TAG: "dict", "value": [[encode(k), encode(v)] for k, v in value.items()]}
    if is_dataclass(value) and type(value) in _NAMES:
        inside = {f.name: encode(getattr(value, f.name)) for f in fields(value)}
        return {_TAG: _NAMES[type(value)], **inside}
    for name, (kind, write, _) in _OTHERS.items():
        if isinstance(value, kind):
            return {_TAG: name, "value": encode(write(value))}
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written as JSON")


def decode(value: Any) -> Any:
    """What ``encode`` was given."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    inside = {k: decode(v) for k, v in value.items() if k != _TAG}
    if _TAG not in value:
        return inside
    name = value[_TAG]
    if name == "array" and not _OF_ARRAY.fullmatch(inside["value"][0]):
        raise ValueError(f"an array of type {inside['value'][0]!r}")
    if name == "Prior":
        return Prior(inside["family"], of=inside.get("of", "sd"), **inside["parameters"])
    return _NOUNS[name](**inside) if name in _NOUNS else _OTHERS[name][2](inside["value"])


def _family_written(family: Family) -> list[Any]:
    """Its name and what was said of it."""
    return [family.name, *(getattr(family, field.name) for field in fields(family))]


# Tag -> type, what of it is written, how it is read again. A Timestamp is a datetime is a date.
_OTHERS: dict[str, tuple[Any, Any, Any]] = {
    "family": (Family, _family_written, lambda v: FAMILIES[v[0]](*v[1:])),
    "covariance": (Covariance, lambda c: c.word, COVARIANCES.__getitem__),
    "float": (float, str, float),
    "dict": (dict, dict.items, dict),
    "tuple": (tuple, list, tuple),
    "slice": (slice, lambda s: [s.start, s.stop, s.step], lambda v: slice(*v)),
    "array": (np.ndarray, lambda a: [str(a.dtype), a.tolist()], lambda v: np.array(v[1], v[0])),
    "timestamp": (pd.Timestamp, str, pd.Timestamp),
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "timedelta": (pd.Timedelta, pd.Timedelta.isoformat, pd.Timedelta),
    "duration": (
        datetime.timedelta,
        lambda d: d.total_seconds(),
        lambda s: datetime.timedelta(0, s),
    ),
    "decimal": (Decimal, str, Decimal),
    "interval": (pd.Interval, lambda i: [i.left, i.right, i.closed], lambda v: pd.Interval(*v)),
}
