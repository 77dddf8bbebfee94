"""Bundled tables, each with its origin, its licence and the meaning of every column.

>>> from hierpool import datasets
>>> datasets.load("sleepstudy").shape
(180, 3)
>>> datasets.about("sleepstudy").columns[0].unit
'ms'
"""

from __future__ import annotations

from hierpool.datasets.catalogue import About, Column, about, names
from hierpool.datasets.loading import load

__all__ = ["About", "Column", "about", "load", "names"]
