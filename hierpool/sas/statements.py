"""A program as statements: the DATA step that makes columns, and those of one PROC MIXED."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from hierpool.core.errors import nearest
from hierpool.sas.tokens import Source, Token

STATEMENTS = (
    "class",
    "model",
    "random",
    "repeated",
    "lsmeans",
    "estimate",
    "contrast",
    "weight",
    "parms",
    "by",
)
_NOT_READ = {
    "prior": "priors= of hp.from_sas() sets the priors of the posterior",
    "slice": "write lsmeans a*b / slice=b",
    "lsmestimate": "write an ESTIMATE statement",
    "where": "choose the rows first: data.query('...')",
}
_ALONE = "pass the text from proc mixed to its run; alone"
_SAID_ELSEWHERE = (
    *("ods", "title", "title1", "title2", "footnote", "options", "label", "format"),
    *("id", "store", "make", "libname", "filename"),
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: its keyword, and the tokens after it."""

    source: Source
    keyword: Token
    tokens: tuple[Token, ...]

    @property
    def text(self) -> str:
        """As it was typed, in one line."""
        last = self.tokens[-1] if self.tokens else self.keyword
        return " ".join(self.source.text[self.keyword.start : last.stop].split())

    def fail(self, message: str, code: str, token: Token | None = None, hint: str = "") -> NoReturn:
        """Raise with a caret under a token, by default under the keyword."""
        self.source.fail_at(message, code, token or self.keyword, hint)

    def fail_over(
        self, message: str, code: str, tokens: Sequence[Token], hint: str = ""
    ) -> NoReturn:
        """The same under several tokens."""
        self.source.fail(message, code, tokens[0].start, tokens[-1].stop, hint)


@dataclass(slots=True)
class Program:
    """What was read.

    Attributes
    ----------
    made
        Column -> the tokens of the expression that makes it, of a DATA step.
    procedure
        The PROC MIXED statement.
    statements
        Those after it.
    ignored
        Statements that say nothing of the model, as typed.
    """

    procedure: Statement
    made: dict[str, tuple[Statement, tuple[Token, ...]]] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def of(self, keyword: str) -> list[Statement]:
        """The statements of one kind, in order."""
        return [s for s in self.statements if s.keyword.word == keyword]


def read_program(source: Source) -> Program:
    """A DATA step, if there is one, and one PROC MIXED; an error at whatever else there is."""
    made: dict[str, tuple[Statement, tuple[Token, ...]]] = {}
    ignored: list[str] = []
    program: Program | None = None
    in_data = has_ended = False
    for statement in _statements(source):
        word = statement.keyword.word
        if word in _SAID_ELSEWHERE:
            ignored.append(statement.text)
        elif word in ("run", "quit"):
            in_data, has_ended = False, program is not None
        elif word == "data" and program is None:
            in_data = True
        elif in_data:
            _read_data_statement(statement, made)
        elif word == "proc":
            if program is not None:
                what = "one PROC MIXED is read at a time"
                if not any(t.word == "mixed" for t in statement.tokens[:1]):
                    what = "another step stands after PROC MIXED"
                statement.fail(what, "sas-statement", hint=_ALONE)
            program = Program(_procedure(statement), made, ignored=ignored)
        elif program is None or has_ended:
            where = "before" if program is None else "after"
            statement.fail(
                f"this stands {where} the PROC MIXED step",
                "sas-statement",
                hint=_ALONE,
            )
        else:
            _check_known(statement)
            program.statements.append(statement)
    if program is None:
        end = len(source.text.rstrip())
        source.fail(
            "there is no PROC MIXED in this text",
            "sas-statement",
            max(end - 1, 0),
            end,
            "it starts with proc mixed;",
        )
    return program


def _statements(source: Source) -> Iterator[Statement]:
    own: list[Token] = []
    tokens = source.tokens()
    for token in tokens:
        if not token.is_sign(";"):
            own.append(token)
        elif own:
            yield _statement(source, own)
            own = []
    if own:
        is_end = len(own) == 1 and own[0].word in ("run", "quit")
        if not is_end:
            hint = "add a ;"
            if source.text.strip().lower().endswith(".sas"):
                hint = "of a file pass the text: hp.from_sas(pathlib.Path('...').read_text(), data)"
            source.fail_at("no ; ends this statement", "sas-syntax", own[-1], hint)


def _statement(source: Source, own: list[Token]) -> Statement:
    if own[0].kind != "name":
        source.fail_at(
            "a statement starts with a keyword", "sas-syntax", own[0], "is a ; too many before it?"
        )
    return Statement(source, own[0], tuple(own[1:]))


def _procedure(statement: Statement) -> Statement:
    if not statement.tokens or statement.tokens[0].word != "mixed":
        token = statement.tokens[0] if statement.tokens else statement.keyword
        name = statement.tokens[0].text.upper() if statement.tokens else ""
        hint = _ALONE
        if name == "HPMIXED":
            hint = "its statements are those of PROC MIXED: write proc mixed"
        elif name == "GLIMMIX":
            hint = "a family of the response is family= of hp.Model"
        statement.fail(f"PROC {name} is not read, only PROC MIXED", "sas-statement", token, hint)
    return Statement(statement.source, statement.tokens[0], statement.tokens[1:])


def _check_known(statement: Statement) -> None:
    word = statement.keyword.word
    if word in _NOT_READ:
        statement.fail(f"{word.upper()} is not read", "sas-statement", hint=_NOT_READ[word])
    if word not in STATEMENTS:
        hint = nearest(word, [*STATEMENTS, "run"])
        statement.fail(
            f"PROC MIXED has no statement {statement.keyword.text!r} here",
            "sas-statement",
            hint=hint,
        )


def _read_data_statement(
    statement: Statement, made: dict[str, tuple[Statement, tuple[Token, ...]]]
) -> None:
    """``name = expression`` of a DATA step; SET says nothing here."""
    tokens = statement.tokens
    if statement.keyword.word == "set":
        if any(t.is_sign("(") for t in tokens):
            fail_data_set_options(statement, next(t for t in tokens if t.is_sign("(")))
        return
    if not tokens or not tokens[0].is_sign("=") or len(tokens) < 2:
        statement.fail(
            "of a DATA step only set and name = expression are read",
            "sas-statement",
            hint="do the rest with pandas, and pass the table",
        )
    made[statement.keyword.text] = (statement, tokens[1:])


def fail_data_set_options(statement: Statement, token: Token) -> NoReturn:
    """Raise at ``data=d(where=...)``."""
    statement.fail(
        "options of a data set are not read",
        "sas-option",
        token,
        "choose rows and columns first: data.query('x > 1'), data.rename(columns={'a': 'b'})",
    )
