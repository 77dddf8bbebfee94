"""Imports run one way, heavy libraries stand behind one door, and the face loads neither.

The syntax trees are read: imports inside functions count, those for the type checker alone do not.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import hierpool as hp

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hierpool"

WINGS = ("data", "bayes", "reml", "checks")
# Part of the package -> parts it may import besides itself (the table of the architecture page).
# A part is a folder or a file at the top; the face, which every import loads, is open to joints.
JOINTS = {"core", *WINGS, "answers", "show"}
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "core": set(),
    **{wing: {"core"} for wing in WINGS},
    "answers": {"core", "checks"},
    "show": {"core", "checks"},
    "fits": {*JOINTS, "storage"},
    "models": {*JOINTS, "fits", "engines"},
    "engines": {*JOINTS, "fits"},
    "storage": {*JOINTS, "fits"},
    "calibrating": {*JOINTS, "fits", "models", "engines"},
    "trying": {*JOINTS, "fits", "models", "engines"},
    "advising": {*JOINTS, "fits", "models", "engines", "trying"},
    "answering": {*JOINTS, "fits"},
    "reporting": {*JOINTS, "fits"},
    "studies": {*JOINTS, "fits", "models", "answering", "advising", "reporting"},
    "unfinished": {*JOINTS, "fits", "models"},
    "checking": {*JOINTS, "fits", "models", "studies", "answering"},
    "workflow": {
        *JOINTS,
        *("fits", "models", "engines", "storage", "calibrating"),
        *("answering", "studies", "checking", "unfinished"),
    },
    "cli": {"workflow", "models", "storage", "data", "core"},
}
CLI_READS = {
    "data": ("hierpool.data.datasets", "hierpool.data.files"),
    "core": ("hierpool.core.errors", "hierpool.core.printable", "hierpool.core.writing"),
}  # and no more of these

# Within core: printable -> errors -> spec -> {moments, design} -> {gaussian, results}
CORE_FLOORS = {
    "printable": -1,
    "csv_text": 0,
    "errors": 0,
    "digits": 0,
    "words": 0,
    "findings": 0,
    "triangular": 0,
    "coding": 0,
    "sweep": 0,
    "compiled": 0,
    "fast_math": 1,
    "cores": 0,
    "writing": 1,
    "spread": 0,
    "labels": 1,
    "label_advice": 2,
    "spec": 1,
    "estimable": 1,
    "design": 2,
    "identified": 3,
    "label_matching": 3,
    "moments": 3,
    "gaussian": 4,
    "results": 4,
    "tables": 4,
    "partition": 4,
    "kernels": 4,
    "integrated": 5,
    "integrated_one": 6,
    "integrated_many": 12,
    "held_out": 7,
    "henderson": 8,
    "front_plan": 4,
    "front_columns": 5,
    "front_kernels": 6,
    "fronts": 7,
    "front_draws": 8,
    "front_rows": 7,
    "front_leave_out": 8,
}

SAMPLERS = ("pymc", "pytensor", "nutpie", "numpyro", "blackjax", "jax")
# Where they are installed, ArviZ announces them to be loaded when needed, and scipy, which asks
# whether an array is one of jax, needs them: that is not ours to prevent.
ANNOUNCED = {"jax", "numpyro"}
# Library -> where it may be imported: a folder ends in a slash.
HEAVY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(SAMPLERS, ("bayes/full.py", "bayes/sampling.py")),
    "formulaic": ("data/categories.py", "data/encoder.py"),
    "arviz": ("checks/", "show/"),
    "arviz_stats": ("checks/", "show/"),
    "arviz_base": ("checks/", "show/"),
    "arviz_plots": ("checks/", "show/"),
    "matplotlib": ("show/",),
    "jinja2": ("show/report/",),
    "numba": (
        "core/compiled.py",
        "core/kernels.py",
        "core/front_columns.py",
        "core/front_kernels.py",
        "core/fast_math.py",
        "core/front_rows.py",
        "checks/psis.py",
    ),
}
# What importing the face must not load.
NEVER_AT_IMPORT = ("pymc", "arviz", "matplotlib", "numba", "formulaic", "scipy", "pandas")


@cache
def trees() -> dict[str, ast.Module]:
    """Path within the package -> syntax tree."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {str(f.relative_to(PACKAGE)): ast.parse(f.read_text(encoding="utf-8")) for f in files}


def running(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run: at the top, in functions, anywhere but under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from running(other)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        else:
            yield from running(node)


def is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@cache
def imported(path: str) -> tuple[str, ...]:
    """Full names of the modules that a file imports; ``from a import b`` is a.b where that is one."""
    names: list[str] = []
    for node in running(trees()[path]):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inner if name.startswith("hierpool") and is_module(name)]
            names += found or [node.module]
    return tuple(dict.fromkeys(names))


def ours(path: str) -> list[str]:
    return [name for name in imported(path) if name.split(".")[0] == "hierpool"]


def part(module: str) -> str:
    """Folder or top file that a module of hierpool belongs to."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def module_of(path: str) -> str:
    name = "hierpool." + path.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")


@pytest.mark.parametrize("path", trees())
def test_every_file_imports_only_what_its_place_may(path):
    here = part(module_of(path))
    assert here in MAY_IMPORT, f"{here} is new: give it a line in the table, here and in the docs"
    is_joint = here not in {*JOINTS, "__init__"}
    allowed = MAY_IMPORT[here] | {here} | ({"__init__"} if is_joint else set())
    broken = [name for name in ours(path) if part(name) not in allowed]
    assert broken == []


def test_command_line_reads_bundled_tables_and_errors_and_no_more_of_their_folders():
    inner = [name for name in ours("cli.py") if part(name) in CLI_READS]
    assert [name for name in inner if not name.startswith(CLI_READS[part(name)])] == []


@pytest.mark.parametrize("name", CORE_FLOORS)
def test_core_is_built_floor_by_floor(name):
    above = [
        other
        for other in (n.split(".")[-1] for n in ours(f"core/{name}.py"))
        if CORE_FLOORS[other] >= CORE_FLOORS[name]
    ]
    assert above == []


def test_every_file_of_core_has_a_floor():
    files = {Path(p).stem for p in trees() if p.startswith("core/")} - {"__init__"}
    assert files == set(CORE_FLOORS)


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_library_stands_behind_its_door(library):
    users = [p for p in trees() if any(n.split(".")[0] == library for n in imported(p))]
    outside = [p for p in users if not p.startswith(HEAVY[library])]
    assert outside == []


# fit.save() is a method of what storage loads: the two know each other, once each.
KNOWN_PAIR = ("hierpool.fits", "hierpool.storage")


def test_there_is_no_import_circle():
    edges = {module_of(p): [n for n in ours(p) if n != "hierpool"] for p in trees()}
    assert KNOWN_PAIR[1] in edges[KNOWN_PAIR[0]]
    edges[KNOWN_PAIR[0]].remove(KNOWN_PAIR[1])
    assert circle(edges) == []


def circle(edges: dict[str, list[str]]) -> list[str]:
    """Modules of one circle in their order, empty where there is none."""
    done: set[str] = set()

    def follow(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in edges.get(module, []):
            found = follow(other, [*path, module])
            if found:
                return found
        done.add(module)
        return []

    return next((c for c in (follow(m, []) for m in edges) if c), [])


def test_a_circle_would_be_found():
    assert circle({"a": ["b"], "b": ["c"], "c": ["a"]}) == ["a", "b", "c", "a"]
    assert circle({"a": ["b", "c"], "b": ["c"], "c": []}) == []


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded after running the code.

    ArviZ registers jax and numpyro where they are installed, to be loaded at the first use of a
    name: a module of that kind has not run and costs nothing.
    """
    ran_modules = "m for m, it in sys.modules.items() if type(it).__name__ != '_LazyModule'"
    told = f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in [{ran_modules}]}}))"
    ran = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(ran.stdout.splitlines()[-1].split())


def test_importing_the_face_loads_nothing_heavy():
    loaded = loaded_by("import hierpool")
    assert "hierpool" in loaded
    assert loaded & {*NEVER_AT_IMPORT, *SAMPLERS} == set()


def test_a_reml_fit_never_imports_pymc():
    code = """
import hierpool as hp
fit = hp.Model("Reaction ~ Days + (Days | Subject)", hp.datasets.load("sleepstudy")).reml()
assert abs(fit.loglik + 871.814136) < 1e-5, fit.loglik
fit.blup(); repr(fit)
"""
    assert loaded_by(code) & {*SAMPLERS, "arviz", "matplotlib"} == set()


def test_an_exact_fit_never_imports_pymc():
    code = """
import hierpool as hp
fit = hp.Model("Yield ~ 1 + (1 | Batch)", hp.datasets.load("Dyestuff")).fit(seed=1, progress=False)
assert fit.info["engine"] == "exact"
"""
    assert loaded_by(code) & (set(SAMPLERS) - ANNOUNCED) == set()


@pytest.mark.parametrize("name", hp.__all__)
def test_every_name_of_the_face_resolves_and_is_described(name):
    value = getattr(hp, name)
    assert (inspect.getdoc(value) or "").strip()
    assert name in dir(hp)


def test_the_face_defines_nothing():
    """Names and their homes; only the lazy lookup is a function."""
    tree = trees()["__init__.py"]
    defined = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    assert defined == ["__getattr__", "__dir__"]
    assert sorted(hp.__all__) == list(hp.__all__)
    assert set(hp.__all__) == set(hp._HOME)


def test_unknown_name_of_the_face_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'compair'"):
        hp.compair  # noqa: B018


def test_no_public_function_bears_the_name_of_a_module_at_the_top():
    """With lazy loading the name would turn into the module."""
    modules = {Path(p).parts[0].removesuffix(".py") for p in trees()} - {"__init__"}
    assert modules & (set(hp.__all__) - hp._MODULES) == set()


def test_asking_for_a_submodule_does_not_hide_a_name():
    for home in sorted(set(hp._HOME.values())):
        importlib.import_module(home)
    assert all(getattr(hp, name) is not None for name in hp.__all__)
    assert callable(hp.compare)
    assert callable(hp.shrinkage)
    assert callable(hp.study)


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Public classes and functions of a file, and the public methods of those classes."""
    for node in tree.body:
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner


@pytest.mark.parametrize("path", trees())
def test_every_public_function_says_what_comes_back(path):
    silent = [name for name, node in public(trees()[path]) if not ast.get_docstring(node)]
    assert silent == []


@pytest.mark.parametrize("path", trees())
def test_every_file_says_what_it_is(path):
    assert ast.get_docstring(trees()[path])
