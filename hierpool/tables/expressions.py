"""A factor of a formula as an expression that the engine of a table evaluates."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import narwhals.stable.v2 as nw

from hierpool.core.errors import FormulaError
from hierpool.formula.cell_functions import in_users_names
from hierpool.formula.function_calls import Factor
from hierpool.formula.functions import BASES, LEARNED

# Null where there is no value: some engines give NaN there, some infinity, and some fail.
_FUNCTIONS: dict[str, Callable[[nw.Expr], nw.Expr]] = {
    "log": lambda e: nw.when(e > 0).then(e.log()),
    "log2": lambda e: nw.when(e > 0).then(e.log(2)),
    "log10": lambda e: nw.when(e > 0).then(e.log(10)),
    "exp": lambda e: e.exp(),
    "sqrt": lambda e: nw.when(e >= 0).then(e.sqrt()),
    "abs": lambda e: e.abs(),
    "I": lambda e: e,
    "offset": lambda e: e,
}
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.Mod: operator.mod,
    ast.FloorDiv: operator.floordiv,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_PRODUCTS = (2.0, 3.0, 4.0)  # powers that are products: exact, and faster than a power


@dataclass(frozen=True)
class Learned:
    """A call that remembers something of the whole table: ``center(x)``.

    Attributes
    ----------
    text
        In the user's names, written in one way.
    inner
        Its argument as an expression.
    call
        Its syntax.
    """

    text: str
    inner: nw.Expr
    call: ast.Call

    @property
    def flags(self) -> dict[str, Any]:
        """Whether it centres, whether it scales, and ``ddof`` of its sd."""
        name = _name(self.call)
        second = "rescale" if name == "standardize" else "scale"
        ddof = 0.0 if name == "standardize" else 1.0
        given = dict(zip(("center", second, "ddof"), self.call.args[1:], strict=False))
        given |= {k.arg: k.value for k in self.call.keywords if k.arg}
        read = {k: ast.literal_eval(v) for k, v in given.items()}
        is_scaled = name != "center" and bool(read.get(second, True))
        return {
            "center": bool(read.get("center", True)),
            "scale": is_scaled,
            "ddof": float(read.get("ddof", ddof)),
        }


@dataclass
class Translator:
    """Factors to expressions of doubles.

    Attributes
    ----------
    formula
        The whole formula, for the caret of errors.
    known
        States of functions that remember, by text; those that are missing are put in ``asked``.
    """

    formula: str
    known: Mapping[str, Mapping[str, Any]]
    asked: list[Learned]

    def expression(self, factor: Factor) -> nw.Expr:
        """The factor as an expression.

        Raises
        ------
        FormulaError
            What no engine evaluates.
        """
        if factor.kind == "column":
            return number(factor.columns[0])
        tree = ast.parse(factor.code, mode="eval").body
        found = self._walk(tree, factor)
        assert isinstance(found, nw.Expr)
        return found

    def _walk(self, node: ast.expr, factor: Factor) -> Any:
        match node:
            case ast.Constant(value=bool() | int() | float() as value):
                return float(value)
            case ast.Name(id=name):
                return number(factor.columns[int(name.strip("_").rsplit("_", 1)[1])])
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._walk(operand, factor) * -1.0
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self._walk(operand, factor)
            case ast.BinOp(left=left, op=op, right=right):
                return _combined(type(op), self._walk(left, factor), self._walk(right, factor))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                is_so = _OPERATORS[type(op)](self._walk(left, factor), self._walk(right, factor))
                return as_double(nw.when(is_so).then(nw.lit(1.0)).otherwise(nw.lit(0.0)))
            case ast.Call() as call:
                return self._called(call, factor)
        self._refuse(factor, ast.unparse(node))
        return None

    def _called(self, call: ast.Call, factor: Factor) -> Any:
        name = _name(call)
        if name in BASES or name not in (*_FUNCTIONS, *LEARNED):
            self._refuse(factor, name)
        inner = self._walk(call.args[0], factor)
        if name in _FUNCTIONS:
            return _FUNCTIONS[name](inner)
        columns = {f"_column_{i}_": c for i, c in enumerate(factor.columns)}
        text = in_users_names(ast.unparse(call), columns)
        if text not in self.known:
            self.asked.append(Learned(text, inner, call))
            return inner
        state = self.known[text]
        if state.get("center") is not None:
            inner = inner - float(state["center"])
        return inner if state.get("scale") is None else inner / float(state["scale"])

    def refuse_values(self, factor: Factor, column: str, most: int) -> None:
        """Raise for a factor whose column has too many values to be told apart."""
        self._refuse(factor, f"{column!r} has more than {most} of them")

    def _refuse(self, factor: Factor, what: str) -> None:
        at = self.formula.find(factor.text)
        column = factor.columns[0]
        if "has more" not in what:
            what = f"{what} cannot be summed"
        raise FormulaError(
            f"{factor.text} needs the values of {column!r} one by one: {what}",
            "not-in-sql",
            self.formula,
            at if at >= 0 else None,
            len(factor.text),
            f"write powers such as I({column} ** 2), round {column} to at most 64 values, or fit the "
            "model to rows in memory",
        )


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)


def number(column: str) -> nw.Expr:
    """A column as doubles, cast before anything is multiplied: whole numbers would overflow."""
    return nw.col(column).cast(nw.Float64)


def as_double(small: nw.Expr) -> nw.Expr:
    """A number that was typed, or one of several, as a double: Postgres takes it for a decimal.

    By way of a single, as ibis drops a cast to the type that it believes to be there.
    """
    return small.cast(nw.Float32).cast(nw.Float64)


def product(parts: list[nw.Expr]) -> nw.Expr:
    """The product of some expressions."""
    out = parts[0]
    for part in parts[1:]:
        out = out * part
    return out


def _combined(op: type, left: Any, right: Any) -> Any:
    if op is ast.Pow and right in _PRODUCTS and isinstance(right, float):
        square = left * left
        return {2.0: square, 3.0: square * left, 4.0: square * square}[right]
    return _OPERATORS[op](left, right)
