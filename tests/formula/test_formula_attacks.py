"""Formulas made to run code: each ends in an error of ours, and nothing is run.

``{run}`` stands for an expression that leaves a file behind, without a quote in it, so that it
passes through any text that is put into another.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hierpool.core.errors import HierpoolError
from hierpool.core.spec import Spec
from hierpool.formula.build import build_design
from hierpool.formula.parse import parse
from tests.support.cases import each

ATTACKS = [
    # names that NFKC makes into others
    "\uff49\uff4d\uff50\uff4f\uff52\uff54({run})",
    "__\uff49mport__({run})",
    "\uff45\uff56\uff41\uff4c({run})",
    "I(x.__\uff43lass__)",
    "np.\uff53ave({run})",
    # attributes, subscripts, dunder names
    "I(x.apply(lambda v: {run}))",
    "np.log.__self__({run})",
    "log.__call__({run})",
    "I(().__class__.__bases__[0].__subclasses__())",
    "C.__globals__({run})",
    "I(__builtins__)",
    "I(__FORMULAIC_STATE__)",
    # comprehensions, walrus, lambda, f-strings, conditionals, await, star-args
    "I([{run} for _ in (1,)])",
    "I({{k: {run} for k in (1,)}})",
    "I(sum({run} for _ in (1,)))",
    "I((q := {run}))",
    "I((lambda: {run})())",
    "(lambda x: {run})(x)",
    "I(f'{{{run}}}')",
    "I(x if {run} else x)",
    "I(x and {run})",
    "I(*[{run}])",
    "log(*x)",
    "log(**{{'x': {run}}})",
    "I(await x)",
    "I((yield))",
    # arguments of the library's own functions
    "bs(x, df={run})",
    "bs(x, knots=[{run}])",
    "bs(x, 4, extrapolation={run})",
    "cr(x, df=4, constraints={run})",
    "cr(x, df=4, constraints='x0 - x1')",
    "poly(x, 2, raw={run})",
    "scale(x, center={run})",
    "scale(x, _state={run})",
    "standardize(x, _context={run})",
    "bs(x, df=4, _spec=1)",
    # text that the library would put into code of its own
    "bs(x, df=4, extrapolation='a\" or {run}) #')",
    "bs(x, df=4, extrapolation='a\"] or {run} #')",
    "cr(x, df=4, constraints='\")) or {run} #')",
    "scale(x, center='\\\" or {run} #')",
    # strings in C()
    "C(f, {run})",
    "C(f, contr.{run})",
    "C(f, levels={run})",
    "C(f, levels=[{run}])",
    "C(f, levels=['a\" or {run} or \"'])",
    "C(f, levels=['`a` + {run}'])",
    "C(f, Treatment('\") or {run} #'))",
    "C(f, Treatment(f'{run}'))",
    "C(f, Treatment(reference={run}))",
    "C(f, Poly(scores={run}))",
    "C(f, Poly(scores=[{run}]))",
    "C(f, encode_contrasts)",
    "C(f, np.save)",
    "C(C(f))",
    # backticks
    "I(`{run}`)",
    "`{run}`",
    "I(`x`; {run})",
    "I(`x``) + {run} + (``x`)",
    "`x`.{run}",
    "I(`a\\`) or {run} #`)",
    # bytes that end a text, and other signs
    "I(x\0)",
    "x\0",
    "`x\0`",
    "I(x) # {run}",
    "I(x)\n{run}",
    "I(x); {run}",
    "{{{run}}}",
    "[{run}]",
    "'{run}'",
    "@{run}",
    "I(x)({run})",
    "hashed(f, levels=4)",
    "lag({run})",
    "Q('{run}')",
    # deep and long
    "I(" * 900 + "x" + ")" * 900,
    "I(" + "-" * 9000 + "x)",
    "I(x" + "[0" * 3000 + "]" * 3000 + ")",
    "I(" + "lambda: " * 2000 + "{run})",
    "`" * 9999,
    "(" * 9000,
    "x" * 30_000,
]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "y": rng.normal(size=40),
            "x": rng.uniform(1, 2, size=40),
            "f": np.tile(list("abcd"), 10),
            "g": np.repeat(list("uvwz"), 10),
        }
    )


def canary(folder: Path) -> tuple[str, Callable[[], bool]]:
    """Code that makes a folder, without quotes, and whether it was run."""
    path = folder / "ran"
    spelled = "+".join(f"chr({ord(char)})" for char in str(path))
    return f"__import__(chr(111)+chr(115)).mkdir({spelled})", path.exists


@each("attack", ATTACKS)
@each("place", ["y ~ {}", "{} ~ x", "y ~ x + ({} | g)", "y ~ offset({})"])
def test_no_attack_runs_and_each_ends_in_an_error(attack, place, tmp_path, table):
    run, has_run = canary(tmp_path)
    written = attack.replace("{{", "{").replace("}}", "}").replace("{run}", run)
    with pytest.raises(HierpoolError) as caught:
        build_design(parse(place.replace("{}", written)), table)
    assert caught.value.code
    assert not has_run()


@each("attack", [a for a in ATTACKS if len(a) < 60])
def test_no_attack_runs_from_a_spec_made_by_hand(attack, tmp_path, table):
    run, has_run = canary(tmp_path)
    written = attack.replace("{{", "{").replace("}}", "}").replace("{run}", run)
    for spec in (Spec("y ~ x", "y", f"1 + {written}"), Spec("y ~ x", written, "1 + x")):
        with pytest.raises(HierpoolError):
            build_design(spec, table)
    assert not has_run()


def test_canary_sings_where_its_code_is_run(tmp_path):
    run, has_run = canary(tmp_path)
    assert not has_run()
    eval(run)
    assert has_run()
