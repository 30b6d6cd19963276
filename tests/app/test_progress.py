from __future__ import annotations

import io
import sys

import pytest

from yuwen.app import progress
from yuwen.app.progress import Progress, duration


def test_plain_lines_are_few_and_tell_each_evaluation(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(100, "training") as shown:
        for step in range(1, 101):
            shown.step(step, {"loss": 5.0, "tokens_per_second": 1234, **({"bits_per_byte": 2.5} if step == 50 else {})})
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1/100", "50/100", "100/100"]
    assert "loss 5.000" in lines[0] and "1,234 tokens/s" in lines[0] and "2.500 bits/byte" in lines[1]


def test_time_left_counts_from_where_a_resumed_run_began(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    with Progress(1000, "training") as shown:
        shown.step(900, {"loss": 1.0})
        shown.step(910, {"loss": 1.0})
    assert "1 min 30 s left" in capsys.readouterr().err


def test_a_total_not_known_yet_promises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(0, "training") as progress:
        progress.step(1, {"loss": 7.0})
        progress.step(3, {"valid_loss": 6.5})
        progress.plan(30)
        progress.step(6, {"valid_loss": 6.0})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("training 1  loss") and lines[1].startswith("training 3  loss")
    assert not any("left" in line for line in lines[:2])
    assert lines[2].startswith("training 6/30  loss") and lines[2].endswith("left")


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(1, "training", quiet=True) as shown:
        shown.step(1, {"loss": 1.0})
        shown.message("a")
        shown.sample("b", "c")
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_and_untrusted_text_stays_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress(2, "training") as shown:
        shown.step(1, {"loss": 3.0})
        shown.message("[bold]as is[/bold]")
        shown.sample("春天", "\x1b]0;evil\x07[red]来了\n好")
        shown.step(2, {"loss": 2.0})
    text = screen.getvalue()
    assert "[bold]as is[/bold]" in text and "[red]来了⏎好" in text and "\x1b]0;" not in text
    assert "loss 2.000" in text


@pytest.mark.parametrize(("seconds", "said"), [(-1, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (7800, "2 h 10 min")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
