"""Speed of the posterior beside its peers: python benchmarks/posterior.py --help

Every peer is run on every data set in a process of its own, one after the other, warmed up first.
``README.md`` explains the columns and holds the last table.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from machine import described
from peers import CHAINS, DRAWS, PEERS, Peer
from questions import MEMORY_TO_REACH, QUESTIONS, Question

HERE = Path(__file__).parent
PACKAGES = (
    *("hierpool", "numpy", "scipy", "numba", "pandas", "xarray", "pymc", "pytensor", "nutpie"),
    *("bambi", "arviz", "arviz-stats"),
)
RUNS, PEER_RUNS = 5, 3
BASE = "bambi"  # what the ratios are taken against


@dataclass(frozen=True, slots=True)
class Measured:
    """All runs of one peer on one data set; ``failure`` says why there are none."""

    peer: Peer
    question: Question
    runs: list[dict[str, Any]] = field(default_factory=list)
    memory: float | None = None
    failure: str = ""

    def middle(self, of: Callable[[dict[str, Any]], float]) -> float:
        """Median over the runs."""
        return median(of(run) for run in self.runs)

    @property
    def ess_per_second(self) -> float:
        return self.middle(lambda run: run["ess"] / run["wall"])

    @property
    def spread(self) -> str:
        """Fastest and slowest fit."""
        walls = [run["wall"] for run in self.runs]
        return f"{number(min(walls))} to {number(max(walls))}"


def measure(peer: Peer, question: Question, runs: int, timeout: float) -> Measured:
    """Run one peer on one data set in a new process."""
    command = [sys.executable, str(HERE / "peers.py"), peer.name, question.data, str(runs)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return Measured(peer, question, failure=f"not done after {timeout:.0f} s")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Measured(peer, question, failure=last)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return Measured(peer, question, found["runs"], found["memory"])


HEAD = (
    *("data", "peer", "fit, s", "min to max", "smallest ESS", "ESS/s", "R-hat"),
    *("log lik., s", "LOO, s", "bad k", "elpd", "GB", "runs"),
)


def row(m: Measured) -> list[str]:
    """Cells of one measurement under HEAD."""
    if m.failure:
        return [m.question.data, m.peer.label, f"failed: {m.failure}", *[""] * (len(HEAD) - 3)]
    return [
        m.question.data,
        m.peer.label + _doubts(m),
        number(m.middle(lambda r: r["wall"])),
        m.spread,
        f"{m.middle(lambda r: r['ess']):.0f}",
        number(m.ess_per_second),
        f"{m.middle(lambda r: r['r_hat']):.3f}",
        number(m.middle(lambda r: r["log_likelihood"])),
        number(m.middle(lambda r: r["loo"])),
        _bad_points(m),
        f"{m.middle(lambda r: r['elpd']):.2f}".replace("nan", ""),
        "" if m.memory is None else f"{m.memory:.2f}",
        str(len(m.runs)),
    ]


def _doubts(m: Measured) -> str:
    """How many runs the peer itself calls less than good; empty where it says nothing."""
    doubtful = [r["verdict"] for r in m.runs if r["verdict"] not in {"", "good"}]
    return f" ({doubtful[0]} in {len(doubtful)} of {len(m.runs)})" if doubtful else ""


def _bad_points(m: Measured) -> str:
    """Points with a bad Pareto k, least to most over the runs; after an arrow those not refitted."""
    scored = [r for r in m.runs if not math.isnan(r["bad_k"])]
    if not scored:
        return ""
    found = [int(r["bad_k"] + r["refitted"]) for r in scored]
    counts = f"{min(found)}" if min(found) == max(found) else f"{min(found)} to {max(found)}"
    if not any(r["refitted"] for r in scored):
        return counts
    return f"{counts} -> {max(int(r['bad_k']) for r in scored)}"


def number(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def verdicts(measured: Iterable[Measured]) -> list[list[str]]:
    """What was to be reached, what was, and whether it is."""
    by_key = {(m.question.data, m.peer.name): m for m in measured if m.runs}
    out = []
    for question in QUESTIONS.values():
        ours, base = by_key.get((question.data, "hierpool")), by_key.get((question.data, BASE))
        if ours is not None:
            if base is not None:
                out.append(_against_base(ours, base))
            out += _absolute(ours)
            expert = by_key.get((question.data, "expert"))
            if expert is not None:
                out += _against_expert(ours, expert)
    return out


def _against_base(ours: Measured, base: Measured) -> list[str]:
    times = ours.ess_per_second / base.ess_per_second
    walls = base.middle(lambda r: r["wall"]) / ours.middle(lambda r: r["wall"])
    question = ours.question
    return [
        question.data,
        f"ESS/s over that of {base.peer.label}",
        f"{question.times_to_reach:.0f} times",
        f"{times:.0f} times (wall: {walls:.0f} times)",
        _yes(times >= question.times_to_reach),
    ]


def _absolute(ours: Measured) -> list[list[str]]:
    question, out = ours.question, []
    left = max(r["bad_k"] for r in ours.runs)
    out.append([question.data, "bad k's after refits", "0", f"{left:.0f}", _yes(left == 0)])
    if question.loo_to_reach is not None:
        loo = ours.middle(lambda r: r["loo"])
        limit = f"under {question.loo_to_reach:g} s"
        out.append(
            [question.data, "LOO", limit, f"{number(loo)} s", _yes(loo < question.loo_to_reach)]
        )
    if question.exact_elpd is not None:
        off = max(abs(r["elpd"] - question.exact_elpd) for r in ours.runs)
        limit = f"within 0.5 of {question.exact_elpd}"
        out.append(
            [question.data, "elpd, run furthest off", limit, f"{off:.2f} off", _yes(off < 0.5)]
        )
    if question.data == "Chem97" and ours.memory is not None:
        limit, is_met = f"under {MEMORY_TO_REACH:g} GB", ours.memory < MEMORY_TO_REACH
        out.append([question.data, "peak memory", limit, f"{ours.memory:.2f} GB", _yes(is_met)])
    return out


def _against_expert(ours: Measured, expert: Measured) -> list[list[str]]:
    wall, ess = ours.middle(lambda r: r["wall"]), ours.middle(lambda r: r["ess"])
    whole = expert.middle(lambda r: r["wall"])
    compiling, sampling = (
        expert.middle(lambda r, k=k: r["parts"][k]) for k in ("compile", "sample")
    )
    per_second = expert.middle(lambda r: r["ess"] / r["parts"]["sample"])
    name, data = expert.peer.label, ours.question.data
    cold = f"under {number(whole)} s ({number(compiling)} of it compiling)"
    warm = f"at most {number(sampling)} s (sampling alone, {number(per_second)} ESS/s)"
    reached = f"{number(wall)} s, {number(ess / wall)} ESS/s"
    return [
        [data, f"wall of fit, {name}", cold, reached, _yes(wall < whole)],
        [data, f"wall of fit, {name}, compiled before", warm, reached, _yes(wall <= sampling)],
    ]


def _yes(is_met: bool) -> str:
    return "yes" if is_met else "**no**"


def markdown(head: Iterable[str], rows: Iterable[list[str]]) -> str:
    """A table, columns padded so that it reads as text too."""
    every = [list(head), *rows]
    wide = [max(len(cells[k]) for cells in every) for k in range(len(every[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(cells, wide, strict=True)) + " |"
        for cells in every
    ]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in wide) + "|")
    return "\n".join(lines)


def chosen_peers(names: Iterable[str]) -> list[Peer]:
    """The peers that are installed; the others are named on stderr."""
    found = []
    for name in names:
        missing = [p for p in PEERS[name].packages if importlib.util.find_spec(p) is None]
        if missing:
            print(
                f"left out: {PEERS[name].label} (not installed: {', '.join(missing)})",
                file=sys.stderr,
            )
        else:
            found.append(PEERS[name])
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time the posterior of hierpool beside its peers.")
    parser.add_argument("--data", nargs="+", choices=QUESTIONS, default=list(QUESTIONS))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--runs", type=int, default=RUNS, help="timed runs of the exact engine")
    parser.add_argument("--peer-runs", type=int, default=PEER_RUNS, help="of every other peer")
    parser.add_argument(
        "--timeout", type=float, default=1800, help="seconds for one peer on one data set"
    )
    parser.add_argument("--out", type=Path, help="write the table to this file as well")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    about = described(PACKAGES)
    measured = []
    for question in (QUESTIONS[name] for name in given.data):
        for peer in chosen_peers(given.peers):
            if question.data not in peer.data:
                continue
            runs = given.runs if peer.name == "hierpool" else min(given.runs, given.peer_runs)
            measured.append(measure(peer, question, runs, given.timeout))
            print(*row(measured[-1]), sep="  ", file=sys.stderr, flush=True)
    parts = [
        f"{about}\n{CHAINS} x {DRAWS:,} draws; medians over the runs",
        markdown(HEAD, [row(m) for m in measured]),
    ]
    if reached := verdicts(measured):
        head = ("data", "what", "to reach", "reached", "met")
        parts.append(markdown(head, reached))
    text = "\n\n".join(parts)
    print(text)
    if given.out is not None:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
