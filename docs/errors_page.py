"""The page on errors and findings, from the table of their codes.

python docs/errors_page.py     write docs/errors.md anew from docs/errors.toml
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SOURCE, PAGE = (Path(__file__).with_name(name) for name in ("errors.toml", "errors.md"))
NOTE = """\
<!-- Made from docs/errors.toml. Do not edit this page: edit that file, then run
     python docs/errors_page.py -->"""


def source() -> dict[str, Any]:
    """The table: an intro, and sections with their codes."""
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))


def drawn() -> str:
    """The page."""
    return "\n\n".join(block.strip("\n") for block in _blocks(source())) + "\n"


def _blocks(table: dict[str, Any]) -> Iterator[str]:
    yield from (NOTE, "# Errors and findings", table["intro"])
    for section in table["section"]:
        yield from (f"## {section['title']}", section["intro"])
        for code, entry in section["codes"].items():
            yield from (f"### {code}", entry["text"])
            info = "python" if entry.get("run", True) else "python no-run"
            if "example" in entry:
                yield from (_fenced(entry["example"], info), "Instead:")
                yield _fenced(entry["instead"], info)


def _fenced(code: str, info: str) -> str:
    return f"```{info}\n{code.strip()}\n```"


if __name__ == "__main__":
    PAGE.write_text(drawn(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
