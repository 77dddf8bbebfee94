"""What takes a fit says which kind: a protocol or a class, and never Any or ``hasattr``."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.house.sources import trees

FITS = {"fit", "fits", "blup", "blups", "posterior", "posteriors", "optimum", "reml", "post"}
# What hasattr may be asked of: objects of other libraries, and the system.
FOREIGN = {"node.op", "value", "os", "batch"}


def named(tree: ast.Module) -> Iterator[tuple[int, str, ast.expr | None]]:
    """Line, name and annotation of every parameter and every field."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.lineno, node.arg, node.annotation
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.lineno, node.target.id, node.annotation


def says_any(annotation: ast.expr | None) -> bool:
    return annotation is None or any(
        isinstance(part, ast.Name) and part.id == "Any" for part in ast.walk(annotation)
    )


def test_no_fit_is_any():
    found = [
        f"{path}:{line} {name}"
        for path, tree in trees().items()
        for line, name, annotation in named(tree)
        if name in FITS and says_any(annotation)
    ]
    assert not found


def test_no_fit_is_known_by_its_attributes():
    found = [
        f"{path}:{node.lineno} {ast.unparse(node)}"
        for path, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "hasattr"
        and ast.unparse(node.args[0]) not in FOREIGN
    ]
    assert not found
