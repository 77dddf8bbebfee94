"""The examples of the docstrings give what they show."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in ROOT.glob("hierpool/**/*.py")
    if re.search(r"^\s*>>> ", file.read_text(encoding="utf-8"), re.MULTILINE)
)


@pytest.mark.docs
@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_docstrings_hold(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
