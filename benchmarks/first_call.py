"""The first call in a new process, with compiled code on disk and without; and a study of boars.

    python benchmarks/first_call.py [--runs 3]

Each line is a new process. "start" is Python itself and ``import hierpool``; "data" reads the
table; "call" is the first fit, or the study and its printed form.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from statistics import median

from machine import described
from posterior import PACKAGES, markdown, number

FIT = """
model = hp.varying_slope("Reaction ~ Days", data, group="Subject")
model.fit(engine="exact", seed=1, progress=False)
"""
STUDY = (
    'print(hp.study("volume ~ time", data, group="boar", seed=1, progress=False), file=sys.stderr)'
)
SCRIPT = """
import json, sys, time
import hierpool as hp
marks = [time.time()]
data = hp.datasets.load("{table}")
marks.append(time.time())
{call}
marks.append(time.time())
print(json.dumps(marks))
"""
CASES = {  # what -> table, call, whether the cache is empty, seconds to stay under
    "sleepstudy fit, caches exist": ("sleepstudy", FIT, False, 2.0),
    "sleepstudy fit, no cache": ("sleepstudy", FIT, True, 15.0),
    "study of boars, caches exist": ("boars", STUDY, False, 3.0),
    "study of boars, no cache": ("boars", STUDY, True, None),
}


def first_call(table: str, call: str, is_cold: bool) -> list[float]:
    """Seconds in a new process: start with import, data, call, all of it."""
    script = SCRIPT.format(table=table, call=call)
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, **({"NUMBA_CACHE_DIR": empty} if is_cold else {})}
        start = time.time()
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        whole = time.time() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    marks = [start, *json.loads(done.stdout.splitlines()[-1])]
    return [*(b - a for a, b in pairwise(marks)), whole]


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the first call in a new process.")
    parser.add_argument("--runs", type=int, default=3, help="processes with caches; one without")
    runs = parser.parse_args().runs
    print(described(PACKAGES), end="\n\n")
    rows = []
    for what, (table, call, is_cold, limit) in CASES.items():
        if not is_cold:
            first_call(table, call, False)  # makes the caches
        times = [first_call(table, call, is_cold) for _ in range(1 if is_cold else runs)]
        start, data, called, whole = (median(t) for t in zip(*times, strict=True))
        judged = called + data if "study" in what else whole  # a study is judged after the import
        target = "" if limit is None else f"under {limit:g}"
        met = "" if limit is None else "yes" if judged < limit else "**no**"
        rows.append([what, *map(number, (start, data, called, whole)), target, met])
        print(rows[-1], file=sys.stderr)
    head = ("what", "start and import, s", "data, s", "call, s", "process, s", "to reach, s", "met")
    print(markdown(head, rows))


if __name__ == "__main__":
    main()
