"""Reader of function calls in formulas: allowed functions and arguments.

The library that evaluates a formula runs any Python it finds there. So each call is read as a
syntax tree first, and only columns, numbers, arithmetic, comparisons and the functions listed in
``hierpool.formula.functions`` pass. Nothing of a call is evaluated here.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import NoReturn

from hierpool.core.errors import FormulaError
from hierpool.formula.call_arguments import is_number, read_arguments, read_coding
from hierpool.formula.call_source import MEANS, CallSource
from hierpool.formula.category_coding import BY_DEFAULT, CategoryCoding
from hierpool.formula.function_calls import Factor, FactorKind, is_reserved, quote, unquoted
from hierpool.formula.functions import (
    ALLOWED_FUNCTIONS,
    BARS,
    BASES,
    NUMPY_FUNCTIONS,
    OFFSET,
    SPELLINGS,
    advice,
)

_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_KINDS: dict[str, FactorKind] = {"C": "category", OFFSET: "offset"}
_OF_R = {
    "%%": "write % for %%",
    "%/%": "write // for %/%",
    "::": "remove the package name before ::",
}


def read_call(text: str, start: int, stop: int) -> Factor:
    """The function call at ``text[start:stop]``, or an error with a caret at what is not allowed."""

    def fail(message: str, code: str, at: int = 0, length: int = 1, hint: str = "") -> NoReturn:
        raise FormulaError(message, code, text, start + at, length, hint)

    call = text[start:stop]
    for position, char in unquoted(call):
        if char == "|":
            hint = _instead_of_bar(call)
            fail("a bar is not allowed inside a function", "bar-in-call", position, hint=hint)
        if char == "\\":
            fail("a backslash is not allowed inside a function", "not-allowed", position)
    return _CallReader(CallSource(call, fail)).read()


def _instead_of_bar(call: str) -> str:
    name, inside = call[:-1].split("(", 1)
    if name.strip() not in BARS:
        return "transform the column, then let it vary: (log(x) | g)"
    left, right = inside.split("|", 1)
    return f"write ({left.strip()} {BARS[name.strip()]} {right.strip()})"


@dataclass
class _CallReader:
    """Walks the syntax tree of one call, collecting its columns."""

    typed: CallSource
    columns: list[str] = field(default_factory=list)
    coding: CategoryCoding = BY_DEFAULT
    width: int = 1

    def read(self) -> Factor:
        typed = self.typed
        try:
            tree = ast.parse(typed.plain, mode="eval").body
            if not isinstance(tree, ast.Call):
                typed.fail(
                    "only one function call is allowed here", "not-allowed", 0, len(typed.call)
                )
            name = self._call(tree, is_outer=True)
            code = ast.unparse(tree) if name != "C" else "C(_column_0_)"
        except FormulaError:
            raise
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            at = max((getattr(error, "offset", None) or 1) - 1, 0)
            at = typed.origin[min(at, len(typed.origin) - 1)]
            outside = "".join(char for _, char in unquoted(typed.call))
            hint = next((advice for sign, advice in _OF_R.items() if sign in outside), MEANS)
            typed.fail("this is not a function of columns", "not-allowed", at, 1, hint)
        made = Factor(
            "", tuple(self.columns), _KINDS.get(name, "number"), code, self.coding, self.width
        )
        return made.called(made.with_names(tuple(quote(c, in_call=True) for c in self.columns)))

    def _call(self, node: ast.Call, is_outer: bool = False) -> str:
        name = self._function(node)
        refuse, blame = self.typed.refuse, self.typed.blame
        if not is_outer and name == OFFSET:
            why = "an offset is not allowed inside a function"
            blame(
                node.func,
                why,
                "misplaced-offset",
                "put the function inside the offset: offset(log(x))",
            )
        if not is_outer and name in (*BASES, "C"):
            refuse(node, f"{name}() makes several columns and must be a term of its own")
        if not node.args:
            refuse(node, f"{name}() needs a column", f"write {name}(x)")
        if name == "C" and not isinstance(node.args[0], ast.Name):
            refuse(node.args[0], "C() takes one column, without a function", "write C(x)")
        self._expression(node.args[0])
        if not _has_column(node.args[0]):
            refuse(node, f"there is no column in this {name}()")
        if name == "C":
            self.coding = read_coding(self.typed, node)
        else:
            width = read_arguments(self.typed, node, name)
            self.width = width if is_outer else 1
        return name

    def _function(self, node: ast.Call) -> str:
        """Name of an allowed function; the node is given the spelling used here."""
        func = node.func
        written = ast.unparse(func).replace("as_", "as.")
        if isinstance(func, ast.Name):
            name = SPELLINGS.get(written, written)
            if name in (*ALLOWED_FUNCTIONS, OFFSET):
                func.id = name
                return name
        elif (
            isinstance(func, ast.Attribute)
            and isinstance(func.value, ast.Name)
            and func.value.id == "np"
            and func.attr in NUMPY_FUNCTIONS
        ):
            return written
        typed = self.typed.source(func)
        hint = self._instead(node, written) or (
            f"the functions are {', '.join(ALLOWED_FUNCTIONS)}, offset, and np.log and the like; "
            "for anything else make a column first: data['z'] = ..."
        )
        why = f"{typed}() cannot be used in a formula"
        return self.typed.blame(func, why, "function-not-allowed", hint)

    def _instead(self, node: ast.Call, name: str) -> str:
        """What to write in place of a function of another program."""
        given = [*node.args, *(k.value for k in node.keywords)]
        names = [a for a in given if isinstance(a, ast.Name)]
        words = [h.inside if (h := self.typed.held(a)) else self.typed.source(a) for a in names]
        numbers = [a.value for a in given if isinstance(a, ast.Constant)]
        return advice(name, words, [n for n in numbers if type(n) is int and 1 < n < 50])

    def _expression(self, node: ast.expr) -> None:
        match node:
            case ast.Constant(value=value) if type(value) in (int, float):
                return
            case ast.Name():
                self._column(node)
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, _ARITHMETIC):
                if isinstance(op, ast.Pow):
                    self._check_power(left, right)
                self._expression(left)
                self._expression(right)
            case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
                self._expression(operand)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if isinstance(
                op, _COMPARISONS
            ):
                self._expression(left)
                self._expression(right)
            case ast.Call():
                self._call(node)
            case _:
                self.typed.refuse(node, f"{_words(node)} is not allowed in a formula")

    def _column(self, node: ast.Name) -> None:
        held = self.typed.held(node)
        if held is not None and held.mark != "`":
            self.typed.refuse(
                node,
                "text is not allowed inside a function",
                "a column's name goes in backticks: `my col`; to compare with a label make a "
                "column first: data['z'] = (data['x'] == 'a').astype(float)",
            )
        name = held.inside if held else self.typed.source(node)
        if held is None and (is_reserved(name) or is_reserved(node.id)):
            hint = f"write `{name}` if it is a column"
            self.typed.refuse(node, f"{name!r} is not a column here", hint)
        if name not in self.columns:
            self.columns.append(name)
        node.id = f"_column_{self.columns.index(name)}_"

    def _check_power(self, base: ast.expr, exponent: ast.expr) -> None:
        """Powers of plain numbers are refused: 9**9**9 would not return in a lifetime."""
        if _has_column(exponent) or (_has_column(base) and is_number(exponent)):
            return
        why, hint = "a power of numbers is not allowed here", "write the number itself"
        self.typed.refuse(exponent, why, hint)


def _has_column(node: ast.expr) -> bool:
    called = {id(n.func) for n in ast.walk(node) if isinstance(n, ast.Call)}
    return any(isinstance(n, ast.Name) and id(n) not in called for n in ast.walk(node))


def _words(node: ast.expr) -> str:
    known = {
        ast.Attribute: "a dot (attribute access)",
        ast.Subscript: "square brackets",
        ast.Lambda: "a lambda",
        ast.Constant: "this constant",
    }
    return known.get(type(node), "this piece of Python")
