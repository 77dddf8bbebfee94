"""Many independent jobs in parallel threads, with a bar on stderr where they take over a second."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

AFTER = 1.0  # seconds before a bar comes up


def in_threads[Job, Done](
    work: Callable[[Job], Done],
    jobs: Sequence[Job],
    what: str,
    cores: int | None = None,
    progress: bool = True,
) -> list[Done]:
    """What ``work`` returns for each of the jobs, in their order.

    The heavy parts of a fit are compiled and release the interpreter. The first error stops the
    jobs that have not begun.

    Parameters
    ----------
    work
        Takes one job; must not depend on which thread or in which order it is called.
    jobs
        What it is called with.
    what
        Words beside the bar.
    cores
        Threads; None for as many as there are cores.
    progress
        Whether to show a bar.
    """
    workers = max(1, min(cores or os.cpu_count() or 1, len(jobs)))
    with _bar(len(jobs), what, progress) as advance, ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, job) for job in jobs]
        try:
            for future in as_completed(futures):
                future.result()
                advance()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def is_watched(console: Console) -> bool:
    """Whether a bar can be seen: in a terminal, or in a notebook that has widgets to show it."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


@contextmanager
def _bar(steps: int, what: str, shown: bool) -> Iterator[Callable[[], None]]:
    """Gives what is to be called after each step."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not (shown and is_watched(console)))
    task = bar.add_task(what, total=steps)
    timer = threading.Timer(AFTER, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda: bar.advance(task)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()
