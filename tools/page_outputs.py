"""What the Python on a page prints, beside what the page says that it prints.

    python tools/page_outputs.py README.md docs/choosing.md     write what is printed into the pages

A block of Python that is followed at once by a block without a language shows its output there.
The blocks of a page run in order, as a reader would type them, in a folder that is thrown away.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?P<gap>\n\n```\n(?P<said>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
SHARE, UNITS = 0.2, 5.0  # of a number, and of its last digit, by which draws of two machines differ


@dataclass(frozen=True)
class Shown:
    """A block of Python: its place on the page, what the page says it prints, and what it prints."""

    number: int
    said: str | None
    printed: str


def run(page: Path) -> Iterator[Shown]:
    """Run the blocks of a page, one after the other."""
    names: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for k, match in enumerate(BLOCK.finditer(page.read_text(encoding="utf-8"))):
            heard = io.StringIO()
            with contextlib.redirect_stdout(heard):
                exec(compile(match["code"], f"{page.name}, block {k + 1}", "exec"), names)
            yield Shown(k, match["said"], heard.getvalue())


def differs(said: str, printed: str) -> str:
    """The first thing that is not as the page says, or nothing; draws may differ between machines."""
    for one, other in zip(said.split(), printed.split(), strict=False):
        words = [NUMBER.sub("#", text) for text in (one, other)]
        if words[0] != words[1]:
            return f"{one!r} is {other!r}"
        for a, b in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True):
            if not _close(a, b):
                return f"{one!r} is {other!r}"
    return "" if len(said.split()) == len(printed.split()) else "the lengths differ"


def _close(one: str, other: str) -> bool:
    a, b = (float(text.replace(",", "")) for text in (one, other))
    decimals = min(len(text.partition(".")[2].partition("e")[0]) for text in (one, other))
    return abs(a - b) <= SHARE * max(abs(a), abs(b)) + UNITS * 10.0**-decimals


def written(text: str, shown: list[Shown]) -> str:
    """The page with what was printed in place of what it said."""
    queue = iter(shown)

    def replaced(match: re.Match[str]) -> str:
        printed = next(queue).printed.rstrip("\n") + "\n"
        if match["said"] is None:
            return match[0]
        return f"```python\n{match['code']}```\n\n```\n{printed}```"

    return BLOCK.sub(replaced, text)


def main() -> None:
    """Write what is printed into the pages that are named."""
    os.environ["COLUMNS"] = "120"
    for name in sys.argv[1:]:
        page = Path(name).resolve()
        text = page.read_text(encoding="utf-8")
        page.write_text(written(text, list(run(page))), encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
