"""Imports run one way, heavy libraries stand behind one door, and the face loads neither.

The syntax trees are read, inside functions too. Imports for the type checker alone count for the
floors; for what is loaded, and for circles, they do not.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import hierpool as hp
from tests.house.sources import ROOT, trees

Import = ast.Import | ast.ImportFrom

# Part of the package (a folder, or a file at the top) -> its floor, as on the page on architecture.
FLOORS = {
    "core": 1,
    **dict.fromkeys(("draws", "report", "datasets"), 2),
    "algebra": 3,
    **dict.fromkeys(("formula", "bayes", "reml", "checks", "answers"), 4),
    **dict.fromkeys(("fits", "plots", "sas", "tables"), 5),
    "model": 6,
    **dict.fromkeys(("builders", "studies", "simulation"), 7),
    "cli": 8,
}
FACE = "__init__"  # defines nothing; where a module needs the version, it may ask the face

SAMPLERS = ("pymc", "pytensor", "nutpie", "numpyro", "blackjax", "jax")
# Where they are installed, ArviZ announces them to be loaded when needed, and scipy, which asks
# whether an array is one of jax, needs them: that is not ours to prevent.
ANNOUNCED = {"jax", "numpyro"}
# Library -> where it may be imported: a folder ends in a slash.
HEAVY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(SAMPLERS, ("bayes/nuts/", "bayes/priors/from_pymc_preliz.py")),
    "formulaic": ("formula/",),
    "narwhals": ("formula/", "tables/"),
    "duckdb": ("tables/",),
    **dict.fromkeys(
        ("arviz", "arviz_stats", "arviz_base", "arviz_plots"),
        ("draws/", "checks/", "simulation/", "plots/"),
    ),
    "matplotlib": ("plots/", "report/"),
    "jinja2": ("report/",),
    "numba": (
        "core/compiled.py",
        "core/elementary.py",
        "core/families/",
        "algebra/",
        "draws/psis.py",
    ),
    "qdldl": ("algebra/related/sparse_factor.py",),
}
# What importing the face must not load.
NEVER_AT_IMPORT = ("pymc", "arviz", "matplotlib", "numba", "formulaic", "scipy", "pandas")


def running(tree: ast.AST) -> Iterator[Import]:
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


def of_either_kind(tree: ast.AST) -> Iterator[Import]:
    """Imports that run, and those for the type checker."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node


@cache
def imported(path: str, which: Callable[[ast.AST], Iterator[Import]] = running) -> tuple[str, ...]:
    """Full names of the modules that a file imports; ``from a import b`` is a.b where that is one."""
    names: list[str] = []
    for node in which(trees()[path]):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inner if name.startswith("hierpool") and is_module(name)]
            names += found or [node.module]
    return tuple(dict.fromkeys(names))


def ours(path: str, which: Callable[[ast.AST], Iterator[Import]] = running) -> list[str]:
    return [name for name in imported(path, which) if name.split(".")[0] == "hierpool"]


def part(module: str) -> str:
    """Folder or top file that a module of hierpool belongs to."""
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else "__init__"


def module_of(path: str) -> str:
    name = "hierpool." + path.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__")


def test_every_part_has_a_floor():
    assert {part(module_of(path)) for path in trees()} - {FACE} == set(FLOORS)


def test_no_file_imports_up_or_sideways():
    broken = [
        (path, name)
        for path in trees()
        if (here := part(module_of(path))) != FACE
        for name in ours(path, of_either_kind)
        if part(name) not in {here, FACE} and FLOORS[part(name)] >= FLOORS[here]
    ]
    assert broken == []


def test_only_the_top_asks_the_face():
    """``hierpool.__version__`` apart, which a saved fit, a report and the command line state."""
    asking = {path for path in trees() if "hierpool" in imported(path)}
    assert asking <= {"fits/storage.py", "studies/report.py", "cli.py"}


def test_heavy_libraries_stand_behind_their_doors():
    outside = [
        (path, name)
        for path in trees()
        for name in imported(path)
        if (doors := HEAVY.get(name.split(".")[0])) and not path.startswith(doors)
    ]
    assert outside == []


def test_there_is_no_import_circle():
    edges = {module_of(p): [n for n in ours(p) if n != "hierpool"] for p in trees()}
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


# What reads the record of a study, and never the class that the user holds.
READERS = ("check", "advise", "candidates", "sentences", "report", "tables", "figures")


@pytest.mark.parametrize("name", READERS)
def test_what_reads_a_study_takes_its_record(name):
    read = ours(f"studies/{name}.py", of_either_kind)
    assert not {"hierpool.studies.study", "hierpool.studies.run"} & set(read)


def test_the_record_of_a_study_is_plain_data():
    """Fields, and properties that look into them; it knows nothing of its readers."""
    path = "studies/result.py"
    own = {name for name in ours(path, of_either_kind) if ".studies" in name}
    assert own == {"hierpool.studies.residual_ladder", "hierpool.studies.structures"}  # its fields
    (record,) = [node for node in trees()[path].body if isinstance(node, ast.ClassDef)]
    methods = [node for node in record.body if isinstance(node, ast.FunctionDef)]
    assert [ast.unparse(d) for node in methods for d in node.decorator_list] == ["property"] * len(
        methods
    )


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


def test_every_name_of_the_face_resolves_and_is_described():
    assert [name for name in hp.__all__ if not (inspect.getdoc(getattr(hp, name)) or "")] == []
    assert [name for name in hp.__all__ if name not in dir(hp)] == []


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
    modules = set(FLOORS)
    assert modules & (set(hp.__all__) - hp._MODULES) == set()


def test_asking_for_a_submodule_does_not_hide_a_name():
    for path in trees():
        importlib.import_module(module_of(path))
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


def test_every_public_function_says_what_comes_back():
    silent = [
        (path, name)
        for path, tree in trees().items()
        for name, node in public(tree)
        if not ast.get_docstring(node)
    ]
    assert silent == []


def test_every_file_says_what_it_is():
    assert [path for path, tree in trees().items() if not ast.get_docstring(tree)] == []
