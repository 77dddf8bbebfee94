"""Small designs made by hand: the engines are tested without the way from a table to a design."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hierpool.core.design import Design
from tests.support import designs

DesignMaker = Callable[..., Design]


@pytest.fixture(scope="session")
def make_design() -> DesignMaker:
    """Factory of designs."""
    return designs.make_design
