"""A bar on stderr that names the step at work, where someone watches and it takes over a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

AFTER = 1.0  # seconds before a bar comes up


def is_watched(console: Console) -> bool:
    """Whether a bar can be seen: in a terminal, or in a notebook that has widgets to show it."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


@contextmanager
def named_steps(steps: int, shown: bool) -> Iterator[Callable[[str], None]]:
    """Gives what is to be called with the name of each step as it begins."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not (shown and is_watched(console)))
    task = bar.add_task("", total=steps)
    begun: list[str] = []

    def begin(name: str) -> None:
        bar.update(task, description=name, completed=len(begun))
        begun.append(name)

    timer = threading.Timer(AFTER, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield begin
    finally:
        timer.cancel()
        timer.join()
        bar.stop()
