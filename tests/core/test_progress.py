"""A bar on stderr that names the step at work."""

import io

import rich.console

from hierpool.core import progress


def test_bar_is_silent_without_an_audience(capsys):
    with progress.named_steps(2, True) as begin:
        begin("one")
        begin("two")
    assert capsys.readouterr() == ("", "")


def test_bar_names_the_step_at_work(monkeypatch):
    screen = io.StringIO()
    terminal = rich.console.Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr(rich.console, "Console", lambda **_: terminal)
    monkeypatch.setattr(progress, "AFTER", 0.0)
    with progress.named_steps(2, True) as begin:
        begin("picture: shrinkage")
    assert "picture: shrinkage" in screen.getvalue()
