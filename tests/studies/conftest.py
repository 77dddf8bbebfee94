"""Studies that tests share, each made once in a run."""

from __future__ import annotations

import pytest

import hierpool as hp
from hierpool.studies.study import Study


@pytest.fixture(scope="session")
def sleep() -> Study:
    return hp.study("Reaction ~ Days", hp.datasets.load("sleepstudy"), group="Subject", seed=1)


@pytest.fixture(scope="session")
def dyes() -> Study:
    return hp.study("Yield ~ 1", hp.datasets.load("Dyestuff2"), group="Batch", seed=1)
