"""The site is built without a warning, is complete, and asks for nothing from elsewhere."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import hierpool as hp
from hierpool.studies.study import Study

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
CLASSES = {
    "hierpool.Model": hp.Model,
    "hierpool.PosteriorFit": hp.PosteriorFit,
    "hierpool.LikelihoodFit": hp.LikelihoodFit,
    "hierpool.studies.study.Study": Study,
}
MODULES = {
    "hierpool.plots": hp.plots,
    "hierpool.datasets": hp.datasets,
    "hierpool.families": hp.families,
}
ELSEWHERE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\ssrc=["'](?:https?:)?//"""
    r"""|<link\b[^>]*\shref=["'](?:https?:)?//|@import\s+["'(]|url\(["']?(?:https?:)?//"""
)


def functions() -> set[str]:
    """Names of the face, and of its modules."""
    names = {f"hierpool.{name}" for name in hp.__all__} - set(MODULES)
    return names | {f"{home}.{name}" for home, m in MODULES.items() for name in m.__all__}


def methods() -> set[str]:
    """Public methods and properties of what the user holds."""
    kinds = (property, cached_property)
    return {
        f"{home}.{name}"
        for home, kind in CLASSES.items()
        for name, value in vars(kind).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, kinds))
    }


def test_every_public_name_has_a_place_in_the_reference():
    """A line under the group that it belongs to: ``.. autofunction:: hierpool.name``."""
    text = "\n".join(p.read_text(encoding="utf-8") for p in sorted(REFERENCE.glob("*.md")))
    placed = set(re.findall(r"^\.\. auto\w+:: (hierpool\.[\w.]+)$", text, re.MULTILINE))
    assert (functions() | set(CLASSES)) - placed == set()


class Site:
    """The built site, and what Sphinx warned of."""

    def __init__(self, folder: Path) -> None:
        self.html, warned = folder / "html", folder / "warnings"
        command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "2"]
        places = ["-w", str(warned), "-c", "docs", "-d", str(folder / "doctrees"), "."]
        self.ran = subprocess.run(
            [*command, *places, str(self.html)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        self.warnings = warned.read_text(encoding="utf-8")

    @cached_property
    def objects(self) -> set[str]:
        """Names of Python that the site describes."""
        _, _, _, _, packed = (self.html / "objects.inv").read_bytes().split(b"\n", 4)
        lines = zlib.decompress(packed).decode().splitlines()
        return {line.split()[0] for line in lines if line.split()[1].startswith("py:")}

    def pages(self) -> list[Path]:
        """Every page and style sheet."""
        return [p for p in sorted(self.html.rglob("*")) if p.suffix in (".html", ".css")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"))


@pytest.mark.docs
def test_the_site_is_built_without_a_warning(site):
    assert site.warnings == ""
    assert site.ran.returncode == 0, site.ran.stderr


@pytest.mark.docs
def test_every_public_name_and_method_is_described(site):
    missing = (functions() | set(CLASSES) | methods()) - site.objects
    assert missing == set()


@pytest.mark.docs
def test_every_page_and_notebook_is_on_the_site(site):
    sources: list[Any] = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    sources = [p for p in sources if "_build" not in p.parts]
    names = {p.relative_to(ROOT).with_suffix(".html").as_posix() for p in sources}
    assert {name for name in names if not (site.html / name).exists()} == set()


@pytest.mark.docs
def test_no_page_asks_for_anything_from_elsewhere(site):
    found = {
        f"{page.name}: {match[0]}"
        for page in site.pages()
        for match in ELSEWHERE.finditer(page.read_text(encoding="utf-8"))
    }
    assert site.pages()
    assert found == set()
