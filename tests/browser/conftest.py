"""Reports opened in Chromium. Without it or Playwright these tests are skipped; in CI they fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

import hierpool as hp

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]
STUDIES = {
    "boars": ("volume ~ time", "boar"),
    "sleepstudy": ("Reaction ~ Days", "Subject"),
    "radon": ("log_radon ~ floor", "county"),
    "ChickWeight": ("weight ~ Time * Diet", "Chick"),
}
HOSTILE = [
    "<script>document.title = 'ran'</script>",
    "</script><script>document.title = 'ran'</script>",
    '"><img src=x onerror="document.title = \'ran\'">',
    "{{ 7 * 7 }}",
    "=1+1",
    "-cmd",
    "@SUM(A1)",
    'a "quoted", name',
    "Ærøskøbing 🐗",
    "שלום",
]


def missing(what: str) -> None:
    """Skip on a developer's machine, fail where everything has to be there."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{what} is missing, and CI is to have it")
    pytest.skip(f"needs {what}")


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """A browser that asks nothing of the network by itself."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("Playwright (pip install 'hierpool[browser]')")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        missing("Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page in the browser, and what it has said and asked for since."""

    page: object
    file: Path
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def open_page(chromium) -> Iterator[Callable[..., Opened]]:
    """Opens a file at a width, light or dark, and listens."""
    contexts = []

    def open_(file: Path, width: int = 1280, scheme: str = "light") -> Opened:
        size = {"width": width, "height": 900}
        context = chromium.new_context(viewport=size, color_scheme=scheme, accept_downloads=True)
        contexts.append(context)
        opened = Opened(context.new_page(), file)
        opened.page.on("console", lambda message: opened.said.append(message.text))
        opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
        opened.page.on("request", lambda request: opened.asked.append(request.url))
        opened.page.goto(file.as_uri())
        return opened

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def reports(tmp_path_factory) -> Callable[..., tuple[object, Path]]:
    """Study and report of a bundled table, the full one unless asked otherwise, each made once."""
    folder = tmp_path_factory.mktemp("reports")
    studies: dict[str, object] = {}
    made: dict[tuple[str, str], Path] = {}

    def report(name: str, style: str = "full") -> tuple[object, Path]:
        if name not in studies:
            formula, group = STUDIES[name]
            data = hp.datasets.load(name)
            studies[name] = hp.study(formula, data, group=group, seed=1, progress=False)
        if (name, style) not in made:
            file = folder / f"{name}_{style}.html"
            made[name, style] = studies[name].report(file, style=style)
        return studies[name], made[name, style]

    return report


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> tuple[object, Path, Path]:
    """A study whose names, levels and label are an attack, its full and its brief report."""
    table = pd.DataFrame(
        [
            {"<b>y</b>": 3 + k % 4 + 0.7 * x + ((7 * k + 3 * x) % 5) / 5, "=x": x, "g`'\"<i>": name}
            for k, name in enumerate(HOSTILE)
            for x in range(5)
        ]
    ).rename(columns={"g`'\"<i>": "g'\"<i>"})
    table.attrs["hierpool"] = {"label": "</title><script>document.title = 'ran'</script>"}
    done = hp.study("`<b>y</b>` ~ `=x`", table, group="g'\"<i>", seed=1, draws=200, progress=False)
    folder = tmp_path_factory.mktemp("hostile")
    return done, *(
        done.report(folder / f"{style}.html", style=style) for style in ("full", "brief")
    )
