"""A table that is larger than one likes to have in memory: its sums, fits to them, and their answers.

    python benchmarks/large_tables.py [--rows 10000000] [--levels 100000] [--posterior]

A Parquet file is made once in the folder of temporary files. Each step says its processor time and
the peak memory so far; the first line is the barest query, SELECT g, count(*), sum(y) GROUP BY g.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb

FORMULA = "y ~ x + treatment + (x | g)"
MADE = """
COPY (
    WITH r AS (
        SELECT (random() * ({levels} - 1))::INT AS g,
            ['a', 'b', 'c'][1 + floor(random() * 3)::INT] AS treatment,
            50 + 10 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) AS x,
            sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random()) AS e
        FROM range({rows}))
    SELECT g, treatment, x, 3 + 0.2 * x + (treatment = 'b')::INT + 1.5 * sin(g * 12.9898)
        + 0.1 * sin(g * 78.233) * (x - 50) + 2 * e AS y
    FROM r) TO '{path}' (FORMAT parquet)
"""


class Meter:
    """Processor time of each step, and peak memory."""

    def __init__(self) -> None:
        self.at = self._seconds()

    def _seconds(self) -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    def lap(self, name: str) -> None:
        """Print a step that has ended."""
        now, peak = self._seconds(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{name:10} {now - self.at:8.1f} CPU s   peak {peak:6.0f} MB", flush=True)
        self.at = self._seconds()


def table(rows: int, levels: int) -> Path:
    """The file, made where it is not there yet."""
    path = Path(tempfile.gettempdir()) / f"hierpool_{rows}_{levels}.parquet"
    if not path.exists():
        connection = duckdb.connect()
        connection.execute("SET threads = 2; SELECT setseed(0.5)")
        connection.execute(MADE.format(rows=rows, levels=levels, path=path))
    return path


def bare(path: Path) -> None:
    """The barest query, in a process of its own."""
    meter = Meter()
    duckdb.sql(f"SELECT g, count(*), sum(y) FROM '{path}' GROUP BY g").to_arrow_table()
    meter.lap("bare query")


def main() -> None:
    """Print the steps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--levels", type=int, default=100_000)
    parser.add_argument("--posterior", action="store_true")
    parser.add_argument("--bare", action="store_true", help="the barest query alone")
    given = parser.parse_args()
    path = table(given.rows, given.levels)
    if given.bare:
        bare(path)
        return
    subprocess.run([sys.executable, __file__, *sys.argv[1:], "--bare"], check=True)
    import hierpool as hp

    hp.collect(FORMULA, table(10_000, 100), progress=False)  # what is imported once is not counted
    meter = Meter()
    moments = hp.collect(FORMULA, path, progress=False)
    meter.lap("collect")
    model = hp.Model(moments)
    meter.lap("design")
    best = model.reml()
    meter.lap("REML")
    hp.shrinkage(best)
    meter.lap("shrinkage")
    if given.posterior:
        fit = model.fit(seed=1, progress=False)
        meter.lap("posterior")
        repr(fit)
        meter.lap("printed")
        fit.loo(by="g")
        meter.lap("loo by g")
        hp.shrinkage(fit)
        meter.lap("shrinkage")
    print(moments)


if __name__ == "__main__":
    main()
