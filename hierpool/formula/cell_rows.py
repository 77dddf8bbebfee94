"""The cells of a table as rows of a model: in the place of ``CompleteRows`` where there are only sums.

A column of a design is kappa (m + s a): kappa from the keys of the cell, by the encoder that rows
have too, and an atom a with its shift m and scale s, or none.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hierpool.core.cells import Cells, Pieces, are_of_same_rows
from hierpool.core.design import Grouping
from hierpool.core.errors import DataError, UnsupportedModelError, listed
from hierpool.core.findings import Finding
from hierpool.core.residual import Residual
from hierpool.core.row_labels import OF_CELLS
from hierpool.core.schema import ResponseScale
from hierpool.core.spec import ResidualTerm, Spec
from hierpool.core.summed_rows import Profile, Range, Shares, SummedColumns, SummedRows, stand_ins
from hierpool.formula import tables
from hierpool.formula.alike_labels import alike_labels
from hierpool.formula.cell_functions import in_users_names, remembered, users_text
from hierpool.formula.cell_intervals import of_intervals, polynomials
from hierpool.formula.complete_rows import CompleteRows, EncodedText, ModelTexts, Response
from hierpool.formula.encoder import Encoding, Piece, Source, find_sources, join, learn
from hierpool.formula.function_calls import Factor, column_factor, inside_call
from hierpool.formula.grammar import Columns
from hierpool.formula.levels import make_grouping
from hierpool.formula.missing import missing_notice
from hierpool.formula.parse import read_columns
from hierpool.formula.table_column import TableColumn

_ROUNDING = 1e-15  # of its mean, within which a response is constant
_LOST = 1e-15  # of its sd, up to which a float may leave out of a column what it likes


@dataclass(frozen=True, eq=False)
class CellRows:
    """Stand-ins for the rows of cells, as the columns of a model.

    Attributes
    ----------
    cells
        The sums.
    """

    cells: Cells
    _groupings: dict[tuple[str, ...], Grouping] = field(default_factory=dict)
    _encoded: dict[tuple[Factor | str, ...], CellFactors] = field(default_factory=dict)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The keys, a row a cell; of numbers that are in sums only, ones."""
        ones = {name: np.ones(len(self.cells)) for name in self.cells.numbers}
        return self.cells.keys.assign(**ones).rename_axis(OF_CELLS)

    @classmethod
    def of(cls, cells: Cells, spec: Spec) -> CellRows:
        """Those of a spec; an error where the cells lack a column, or the counts, that it needs."""
        made, own = cls(cells), cells.spec
        if spec.family is not None and own.family is None:
            made._refuse(f"family={spec.family.name!r}", "a Gaussian response")
        texts = ModelTexts.from_spec(spec, list(made.columns))
        needed = [*texts.group_columns, *(c for f in texts.factors for c in f.columns)]
        if spec.family is not None:
            needed += [*texts.response.columns, *texts.predictors, *texts.trials]
        if missing := [c for c in dict.fromkeys(needed) if c not in made.columns]:
            made._refuse(listed(missing), f"{listed(made.columns)} alone")
        if summed := [c for c in texts.group_columns if c not in cells.keys]:
            made._refuse(f"groups by {listed(summed)}", f"groups by {listed(cells.keys.columns)}")
        return made

    @property
    def n(self) -> int:
        """Number of rows of the table."""
        return self.cells.n

    @property
    def label(self) -> str:
        """Name to show for the table."""
        return self.cells.label

    @cached_property
    def columns(self) -> dict[str, TableColumn]:
        """The user's name -> column of the cells."""
        return {str(name): TableColumn(str(name), self.frame[name]) for name in self.frame.columns}

    @cached_property
    def _alike(self) -> CompleteRows:
        """The cells as rows: what they are where rows that are alike were counted."""
        return CompleteRows(self.frame, (), self.label)

    @cached_property
    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Atoms and response of the stand-ins, shape (n, m + 1), and the cell of each."""
        return stand_ins(self.cells.S, self.cells.counts)

    @property
    def cell(self) -> np.ndarray:
        """Shape (n,): cell of each stand-in."""
        return self.values[1]

    @cached_property
    def first_of_cell(self) -> np.ndarray:
        """Shape (cells,): position of the first stand-in of each cell."""
        return np.searchsorted(self.cell, np.arange(len(self.cells)))

    def _shared(self, of_cells: np.ndarray) -> np.ndarray:
        """Shape (n,): numbers of the cells (cells,), in equal parts for their stand-ins."""
        return np.asarray((1 / np.bincount(self.cell) * of_cells)[self.cell])

    @cached_property
    def _weight(self) -> np.ndarray:
        """Shape (n,): rows that each stand-in stands for, counted by their weights."""
        return self._shared(self.cells.S[:, 0, 0])

    @property
    def dropped(self) -> tuple[Finding, ...]:
        """A notice of the rows that were left out."""
        return missing_notice(self.cells.n_read, self.cells.n, self.cells.missing)

    def notices(self, names: Iterable[str]) -> tuple[Finding, ...]:
        """What there is to say of these columns before a model is made of them."""
        keys = [self.columns[name] for name in names if name in self.cells.keys]
        every = [*map(tables.unused_categories, keys), *map(alike_labels, keys)]
        return (*self.dropped, *(notice for found in every for notice in found))

    def part(self, names: Sequence[str]) -> pd.DataFrame:
        """No rows: there are only sums."""
        return pd.DataFrame(columns=list(names))

    def grouping(self, factor: str, made_of: Sequence[str]) -> Grouping:
        """Stand-ins to levels of a factor."""
        key = (factor, *made_of)
        if key not in self._groupings:
            of_cells = make_grouping(factor, [self.columns[c] for c in made_of])
            n_rows = np.zeros(of_cells.n_levels, dtype=np.int64)
            np.add.at(n_rows, of_cells.codes, self.cells.counts)
            known = replace(of_cells.known, n_rows=n_rows)
            self._groupings[key] = Grouping(known, of_cells.codes[self.cell])
        return self._groupings[key]

    def encoded(self, factors: tuple[Factor, ...], population: Columns) -> CellFactors:
        """Factors of a right-hand side as columns."""
        key: tuple[Factor | str, ...] = (*factors, population.text)
        if key not in self._encoded:
            self._encoded[key] = CellFactors.from_rows(factors, population, self)
        return self._encoded[key]

    def residual(self, term: ResidualTerm) -> Residual:
        """How the stand-ins vary about their means."""
        asked = self.cells.spec.residual
        if term.structure == "family":
            return tables.residual(self.frame, term)
        if term != asked:
            words = [
                " and ".join(f"{k}={v!r}" for k, v in t.arguments.items()) for t in (term, asked)
            ]
            self._refuse(*(w or "rows that count alike" for w in words))
        values = self._weight if term.has_sigma else 1 / np.sqrt(self._weight)
        return Residual(term, values, summed_square=float(self.cells.squared_sd.sum() / self.n))

    def response(self, texts: ModelTexts) -> Response:
        """The response of the stand-ins, less the offset."""
        spec, own = texts.spec, self.cells.spec
        if spec.family is not None:
            return self._alike.response(texts)
        if spec.left != own.left:
            self._refuse(spec.left, own.left)
        if spec.offsets != own.offsets:
            self._refuse(*(" + ".join(s.offsets) or "no offset" for s in (spec, own)))
        return self._response

    @cached_property
    def _response(self) -> Response:
        """That of sums, which is the only one that they were collected for."""
        spec = self.cells.spec
        left = Layer(np.ones((1, 1)), np.array([len(self.cells.atoms)]), np.zeros(1))
        y, summed = self.summed_columns([left], np.zeros(len(self.cells), dtype=np.intp))
        if not summed.sds[0] > _ROUNDING * abs(summed.means[0]):
            raise DataError(
                f"the response {spec.response!r} is {summed.means[0]:.15g} in each of the {self.n:,} "
                "rows, so there is nothing to explain. Check the column and the rows with missing "
                "values",
                "constant-response",
            )
        weight = self.cells.S[:, 0, 0]
        of_cells = self.cells.S[:, 0, -1] / weight
        center = float(np.average(of_cells, weights=weight))
        squares = self.cells.S[:, -1, -1] - weight * of_cells**2
        with np.errstate(over="ignore"):
            total = (np.maximum(squares, 0) + weight * (of_cells - center) ** 2).sum()
            sigma = float(np.sqrt(total / (self.n - 1))) * float(self.cells.scale[-1])
        scale = ResponseScale(float(summed.means[0]), float(summed.sds[0]), sigma)
        return Response(y[:, 0], summed=summed, scale=scale)

    def _refuse(self, asked: str, known: str) -> None:
        raise UnsupportedModelError(
            f"the sums were collected for {self.cells.spec.formula}, with {known}, and the model "
            f"asks for {asked}. Collect them for it: hp.collect(formula, table)",
            "not-collected",
        )

    def summed(
        self,
        response: Response,
        X: SummedColumns | None,
        Z: Mapping[str, Sequence[SummedColumns | None]],
        profile: Profile,
    ) -> SummedRows:
        """What the stand-ins carry beside their numbers."""
        n, cells = len(self.cell), self.cells
        is_plain = np.array_equal(cells.counts, cells.S[:, 0, 0]) and not cells.log_sd.any()
        counts = self._weight if is_plain else self._shared(cells.counts)
        log_sd = np.broadcast_to(0.0, n) if is_plain else self._shared(cells.log_sd)
        shares = Shares(counts, log_sd)
        assert X is not None
        of_factors = {
            f: SummedColumns.beside([p for p in parts if p is not None]).rest
            for f, parts in Z.items()
        }
        square = float(cells.squared_sd.sum() / cells.n)
        y_rest = np.zeros(1) if response.summed is None else response.summed.rest[:, 0]
        return SummedRows(shares, square, y_rest, X.rest, of_factors, cells.digest, profile)

    def summed_columns(
        self, layers: Sequence[Layer], of_cells: np.ndarray
    ) -> tuple[np.ndarray, SummedColumns]:
        """Columns of the stand-ins: sums of layers, of which cell i has row ``of_cells[i]``."""
        columns, rest = self.columns_at(layers, of_cells[self.cell], self.values[0])
        mean, sd = self._plain(layers, of_cells)
        if (np.abs(rest).max(axis=0, initial=0.0) <= _LOST * sd).all():
            rest = np.zeros((1, len(sd)))
        return columns, SummedColumns(rest, mean, sd)

    def columns_at(
        self, layers: Sequence[Layer], which: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns of rows with given atoms (n, m), and what the floats leave out.

        ``which`` (n,) is the row of the layers that each has. A column at a time: all of them would
        take many times the memory on the way.
        """
        shape = len(which), layers[0].kappa.shape[1]
        columns, rest = np.empty(shape, order="F"), np.zeros(shape, order="F")
        for k in range(shape[1]):
            total = np.zeros(len(which))
            for layer in layers:
                atom, m, s = self._line(layer, k)
                kappa = layer.kappa[which, k]
                for part in (kappa * m, *([kappa * s * values[:, atom]] if s else [])):
                    total, lost = _added(total, part)
                    rest[:, k] += lost
            columns[:, k] = total
        return columns, rest

    def _line(self, layer: Layer, k: int) -> tuple[int, float, float]:
        """The atom of a column, and m and s of m + s a; s is 0 where there is none."""
        atom = int(layer.which[k])
        if atom < 0:
            return 0, 1.0, 0.0
        cells = self.cells
        return atom, float(cells.shift[atom] - layer.off[k]), float(cells.scale[atom])

    def _plain(
        self, layers: Sequence[Layer], of_cells: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Means and sds over the rows of the table of columns that are sums of layers."""
        each = [self._plain_of(layers, of_cells, k) for k in range(layers[0].kappa.shape[1])]
        mean, sd = np.array(each).reshape(-1, 2).T
        return mean, sd

    def _plain_of(
        self, layers: Sequence[Layer], of_cells: np.ndarray, k: int
    ) -> tuple[float, float]:
        cells, n = self.cells, self.n
        counts, S, plain = cells.counts.astype(float), cells.S, cells.plain
        level, fitted = np.zeros(len(cells)), np.zeros(len(cells))
        slopes: list[tuple[int, np.ndarray, np.ndarray]] = []  # atom, slope, mean of the atom
        for layer in layers:
            atom, m, s = self._line(layer, k)
            kappa = layer.kappa[of_cells, k]
            level += kappa * m
            if s:
                slopes.append((atom, kappa * s, plain[:, 0, atom] / counts))
                fitted += slopes[-1][1] * slopes[-1][2]
        first = level[0] + fitted[0]
        mean = first + (counts * ((level - first) + fitted)).sum() / n
        total = counts * ((level - mean) + fitted) ** 2
        for at, (i, one, of_one) in enumerate(slopes):
            total += one**2 * np.maximum(plain[:, 1, i] - plain[:, 0, i] * of_one, 0.0)
            for j, other, of_other in slopes[at + 1 :]:
                scatter = S[:, i + 1, j + 1] - counts * of_one * of_other
                total += 2 * one * other * scatter
        return mean, np.sqrt(max(total.sum(), 0.0) / max(n - 1, 1))


class Layer(NamedTuple):
    """Columns kappa (m + s a), of which several can be added.

    Attributes
    ----------
    kappa
        Shape (combinations of keys, k): what the keys say.
    which
        Shape (k,): the atom of each column; -1 for none.
    off
        Shape (k,): taken off the atom.
    """

    kappa: np.ndarray
    which: np.ndarray
    off: np.ndarray


def _added(level: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum, and what it lost to rounding, exactly (Knuth's two-sum)."""
    total = level + spread
    back = total - level
    return total, (level - (total - back)) + (spread - back)


class _Centred(NamedTuple):
    """An atom less its mean: the atom's text, the name of what ``center`` remembers, the mean."""

    atom: str
    remembered_as: str
    mean: float


@dataclass(frozen=True, eq=False)
class CellFactors:
    """Factors of a right-hand side as columns of the stand-ins, each text encoded once.

    Attributes
    ----------
    rows
        The stand-ins.
    found
        How the columns of each factor are made.
    own
        The frame that formulaic sees: the combinations of the keys that are predictors.
    combination
        Shape (cells,): which row of it each cell has.
    counts
        Shape (rows of ``own``,): rows of the table with each combination.
    population
        The columns of the fixed effects.
    """

    rows: CellRows
    found: Mapping[Factor, Sequence[Source]]
    own: pd.DataFrame
    combination: np.ndarray
    counts: np.ndarray
    population: Columns
    _made: dict[str, EncodedText] = field(default_factory=dict)

    @classmethod
    def from_rows(
        cls, factors: Iterable[Factor], population: Columns, rows: CellRows
    ) -> CellFactors:
        """Of the cells of a table."""
        factors = tuple(factors)
        names = list(dict.fromkeys(c for f in factors for c in f.columns))
        keys = [c for c in names if c in rows.cells.keys]
        combination: np.ndarray = np.zeros(len(rows.frame), dtype=np.intp)
        if keys:
            combination = rows.frame.groupby(keys, sort=False, observed=True).ngroup().to_numpy()
        first = np.unique(combination, return_index=True)[1]
        columns = {c: TableColumn(c, rows.columns[c].cells.iloc[first]) for c in names}
        found = find_sources(factors, columns)
        own = {
            s.key: s.own_values(columns[s.column]) for several in found.values() for s in several
        }
        counts = np.bincount(combination, rows.cells.counts)
        frame = pd.DataFrame(own, index=pd.RangeIndex(len(first), name=OF_CELLS))
        return cls(rows, found, frame, combination, counts, population)

    @property
    def sources(self) -> tuple[Source, ...]:
        """How its columns are made, each once."""
        return tuple({s.key: s for several in self.found.values() for s in several}.values())

    @property
    def ranges(self) -> Mapping[str, Range]:
        """Where numbers lie that are in sums only."""
        return self.rows.cells.ranges

    @property
    def frame(self) -> pd.DataFrame:
        """The combinations of the keys that are predictors, with the means of other numbers."""
        names = list(dict.fromkeys(s.column for s in self.sources))
        first = np.unique(self.combination, return_index=True)[1]
        frame = self.rows.frame[names].iloc[first].reset_index(drop=True)
        means = {name: r.mean for name, r in self.ranges.items() if name in names}
        return frame.assign(**means)

    def keys_of_rows(self, names: Sequence[str]) -> pd.DataFrame:
        """Values of the stand-ins in columns whose values are told apart."""
        return self.rows.cells.keys[list(names)].iloc[self.rows.cell].reset_index(drop=True)

    def is_of_rows_of(self, other: Profile) -> bool:
        """Whether the sums of another are of the same rows and response, as far as sums can tell."""
        return isinstance(other, CellFactors) and are_of_same_rows(
            self.rows.cells, other.rows.cells
        )

    def sum_coded(self) -> np.ndarray:
        """Shape (n, k): the population's columns with categories that sum to zero."""
        layers = self._coded(self.population, is_summing=True)
        return self.rows.summed_columns(layers, self.combination)[0]

    def is_summed(self, factor: Factor) -> bool:
        """Whether a factor is in sums only, and not told by the keys."""
        return any(c in self.rows.cells.numbers for c in factor.columns)

    def encoded(self, side: Columns) -> EncodedText:
        """The columns of one text."""
        if side.text not in self._made:
            self._made[side.text] = self._learned(side)
        return self._made[side.text]

    def offset(self, factor: Factor) -> Piece:
        """What makes the one column of an offset, for new rows: that of these is off the response."""
        return Piece(self._encoding(Columns(False, (" + ", factor)))[0], (0,))

    def joined(self, pieces: Iterable[Piece]) -> np.ndarray:
        """Columns of offsets, shape (n, k), where these are not off the response already."""
        if self.rows.cells.spec.family is None:
            return np.zeros((0, 0))
        return join(pieces, self.own, self.own.index)[self.combination]

    @cached_property
    def _remembered(self) -> Mapping[str, Mapping[str, Any]]:
        """What functions of summed numbers remember, by their text in the user's names."""
        own = {
            c.remembered_as: {"ddof": 1.0, "center": c.mean, "scale": None}
            for c in self._centred.values()
        }
        return {**own, **self.rows.cells.learned, **of_intervals(self.rows.cells, self.found)}

    @cached_property
    def _centred(self) -> Mapping[str, _Centred]:
        """Summed numbers less their means, which the sums tell too, by their texts."""
        cells, found = self.rows.cells, {}
        powers = {name for column, own in cells.pieces.items() for name in own.atoms(column)}
        for k, atom in enumerate(cells.atoms):
            if len(atom) == 1 and atom[0] not in powers:
                (factor,) = read_columns(f"0 + {atom[0]}").factors
                mean = cells.shift[k] + cells.scale[k] * cells.plain[:, 0, k].sum() / cells.n
                columns = {f"_column_{i}_": c for i, c in enumerate(factor.columns)}
                is_column = factor.kind == "column"
                own = (
                    f"`{factor.columns[0]}`" if is_column else in_users_names(factor.code, columns)
                )
                found[f"center({inside_call(factor)})"] = _Centred(
                    atom[0], f"center({own})", float(mean)
                )
        return found

    def _encoding(self, side: Columns) -> tuple[Encoding, dict[str, Any]]:
        """The encoding of one text, with what its functions remember of the rows of the table."""
        index = pd.RangeIndex(len(self.own))
        known = self._remembered
        cut = {
            ast.unparse(
                ast.parse(f.with_names(tuple(s.key for s in self.found[f])), mode="eval")
            ): known[text]
            for f in side.factors
            if self.rows.cells.pieces and f.kind == "number" and (text := users_text(f)) in known
        }
        first, _ = learn(side, self.found, self.own, index, cut)
        state = remembered(first, self.own, self.counts, self.sources, known)
        return (learn(side, self.found, self.own, index, state)[0] if state else first), state

    def _learned(self, side: Columns) -> EncodedText:
        encoding, _ = self._encoding(side)
        columns, known = self.rows.summed_columns(self._coded(side), self.combination)
        return EncodedText(encoding, columns, known)

    def _coded(self, side: Columns, is_summing: bool = False) -> list[Layer]:
        """The columns as layers, kappa by combination of the keys."""
        of_keys, own, names = self._of_keys(side)

        def encoded(frame: pd.DataFrame) -> np.ndarray:
            return of_keys.sum_coded(frame) if is_summing else of_keys.encode(frame, frame.index)

        layers = [Layer(encoded(own), *self._atoms(of_keys, names))]
        for column, pieces in self.rows.cells.pieces.items():
            if any(column in f.columns for f in side.factors):
                layers += self._powers(column, pieces, own, encoded)
        return layers

    def _powers(
        self,
        column: str,
        pieces: Pieces,
        own: pd.DataFrame,
        encoded: Callable[[pd.DataFrame], np.ndarray],
    ) -> list[Layer]:
        """What powers of a number in intervals add to its columns in the middle of each."""
        keys = [s.key for s in self.sources if s.column == column]
        place = np.searchsorted(pieces.centres, own[keys[0]].to_numpy(dtype=float))

        def at(t: float) -> np.ndarray:
            values = pieces.centres[place] + t * pieces.halves[place]
            return encoded(own.assign(**dict.fromkeys(keys, values)))

        found = polynomials(at, pieces)
        if found is None:
            raise UnsupportedModelError(
                f"{column!r} was summed by intervals for {self.rows.cells.spec.formula}, on which "
                "another function of it is no polynomial. Leave one of the two out of the formula",
                "not-collected",
            )
        first = self.rows.cells.atoms.index((pieces.atoms(column)[0],))
        k = found.shape[2]
        return [
            Layer(found[p], np.full(k, first + p - 1), np.zeros(k))
            for p in range(1, pieces.degree + 1)
        ]

    def at(
        self, side: Columns, cell: np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Columns of one text of any rows of the cells, and what the floats leave out, shape (n, k).

        Parameters
        ----------
        side
            The text.
        cell
            Shape (n,): position of the cell of each row.
        values
            Shape (n, m): its atoms, as they are summed.
        """
        return self.rows.columns_at(self._coded(side), self.combination[cell], values)

    def _of_keys(self, side: Columns) -> tuple[Encoding, pd.DataFrame, dict[str, str]]:
        """The encoding with ones in the place of summed factors, its frame, and which these are."""
        _, state = self._encoding(side)
        summed = [f for f in side.factors if self.is_summed(f)]
        stem = "hpatom"
        while any(stem in s.key for s in self.sources):
            stem += "x"
        place = {f: f"{stem}{k}_" for k, f in enumerate(summed)}
        ones = {name: np.ones(len(self.own)) for name in place.values()}
        own = self.own.assign(**ones)
        stand_in = {f: column_factor(name) for f, name in place.items()}
        pieces = tuple(stand_in.get(p, p) if isinstance(p, Factor) else p for p in side.pieces)
        found = dict(self.found)
        found |= {f: [Source(f.columns[0], f.columns[0], f.text)] for f in stand_in.values()}
        index = pd.RangeIndex(len(own))
        of_keys, _ = learn(replace(side, pieces=pieces), found, own, index, state)
        return of_keys, own, {name: f.text for f, name in place.items()}

    def _atoms(
        self, of_keys: Encoding, text_of: Mapping[str, str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Shapes (k,): which atom each column has, -1 for none; and what is taken off it."""
        atoms = {frozenset(atom): k for k, atom in enumerate(self.rows.cells.atoms)}
        which, off = np.full(len(of_keys.names), -1), np.zeros(len(of_keys.names))
        for term, where in of_keys.memory.term_slices.items():
            product = frozenset(text_of[f.expr] for f in term.factors if f.expr in text_of)
            if product not in atoms and product <= self._centred.keys() and len(product) == 1:
                centred = self._centred[next(iter(product))]
                product, off[where] = frozenset([centred.atom]), centred.mean
            if product and product not in atoms:
                raise UnsupportedModelError(
                    f"{':'.join(sorted(product))} is not among what was summed for "
                    f"{self.rows.cells.spec.formula}. Collect the sums for this formula: "
                    "hp.collect(formula, table)",
                    "not-collected",
                )
            which[where] = atoms[product] if product else -1
        return which, off
