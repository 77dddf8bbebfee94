"""The files of the package as syntax trees, read once for all the rules; scripts as modules."""

from __future__ import annotations

import ast
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hierpool"


@cache
def trees() -> dict[str, ast.Module]:
    """Path within the package -> syntax tree."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {str(f.relative_to(PACKAGE)): ast.parse(f.read_text(encoding="utf-8")) for f in files}


def script(file: Path) -> ModuleType:
    """A script that is not part of the package, as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
