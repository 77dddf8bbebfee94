"""What is left of a study that was interrupted: the models that had been fitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import pandas as pd

from hierpool.core.csv_text import csv_bytes
from hierpool.core.options import options
from hierpool.core.printable import one_line, printable
from hierpool.core.text import joined, number
from hierpool.core.writing import file_names, make_folder, write_file, write_text
from hierpool.fits.posterior import PosteriorFit
from hierpool.model import Model


@dataclass(frozen=True, repr=False)
class UnfinishedStudy:
    """The finished fits of an interrupted study; prints which they are.

    Attributes
    ----------
    formula, groups, label, seed
        What was fitted, to which data, and the seed that repeats it.
    models
        Every model of the study by name, fitted or not.
    fits
        Those that had been fitted.
    prob
        Probability of its intervals, that of ``hp.options`` when it was interrupted.
    """

    formula: str
    groups: tuple[str, ...]
    label: str
    seed: int
    models: Mapping[str, Model]
    fits: Mapping[str, PosteriorFit]
    prob: float = field(default_factory=lambda: options.prob)

    @property
    def sentence(self) -> str:
        """How many models were fitted, and which."""
        count = f"interrupted after {len(self.fits)} of {len(self.models)} models"
        return f"{count}: {joined(self.fits)}"

    def tables(self) -> dict[str, pd.DataFrame]:
        """Fixed effects, and standard deviations and correlations, of the finished fits."""
        made = {}
        for name in ("fixed_effects", "variance_components"):
            with options(prob=self.prob):
                parts = {rung: getattr(fit, name)() for rung, fit in self.fits.items()}
            parts = {rung: table for rung, table in parts.items() if len(table)}
            if parts:
                made[name] = pd.concat(parts, names=["model"])
        return made

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write ``summary.txt``, ``tables/*.csv`` and ``fits/*.nc``; gives the folder back.

        ``hp.load_fit`` reads the fits.

        Raises
        ------
        StorageError
            The folder or a file in it cannot be written.
        """
        root = make_folder(folder)
        write_text(root / "summary.txt", f"{self}\n")
        tables = make_folder(root / "tables")
        for name, table in self.tables().items():
            write_file(tables / f"{name}.csv", csv_bytes(table))
        fits = make_folder(root / "fits")
        names = file_names(self.fits)
        for rung, fit in self.fits.items():
            fit.save(fits / f"{names[rung]}.nc")
        return root

    def __repr__(self) -> str:
        of = f"{self.label}: " if self.label else ""
        head = f"{of}{self.formula} by {joined(self.groups)}, seed {self.seed}"
        lines = [one_line(head), one_line(self.sentence)]
        with pd.option_context("display.width", 120, "display.max_columns", 20):
            for name, table in self.tables().items():
                title = name.replace("_", " ").capitalize()
                lines += ["", title, table.to_string(float_format=number, na_rep="")]
        return printable("\n".join(lines))
