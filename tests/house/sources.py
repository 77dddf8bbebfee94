"""The files of the package as syntax trees, read once for all the rules."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hierpool"


@cache
def trees() -> dict[str, ast.Module]:
    """Path within the package -> syntax tree."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {str(f.relative_to(PACKAGE)): ast.parse(f.read_text(encoding="utf-8")) for f in files}
