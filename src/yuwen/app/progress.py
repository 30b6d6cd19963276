"""What a person watches while something long runs: a live bar on a terminal, plain lines anywhere else; on stderr."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from typing_extensions import Self

INTERVAL = 10.0  # seconds between plain lines


class Progress:
    """Shows steps with their measurements, the time left, messages and samples.

        with Progress(1000, "training") as progress:
            progress.step(1, {"loss": 7.2, "tokens_per_second": 5300})
            progress.sample("春天", "来了")

    `quiet` shows nothing at all. Known measurements are loss, valid_loss, bits_per_byte, accuracy, tokens_per_second;
    the others are ignored. Steps are absolute, so a resumed run simply begins with a higher one. A total of 0 is one
    not known yet; `plan` tells it.
    """

    def __init__(self, total_steps: int, title: str, quiet: bool = False) -> None:
        self.total, self.title, self.quiet = total_steps, title, quiet
        self._start: tuple[int, float] | None = None  # the first step seen and when: speed counts from there
        self._shown = -math.inf
        self._latest: dict[str, float] = {}
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if not self.quiet and sys.stderr.isatty():
            self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Shows that `step` of `total_steps` is done, with whatever was measured at it."""
        now = time.monotonic()
        self._start = self._start or (step, now)
        self._latest.update({name: value for name, value in metrics.items() if isinstance(value, (int, float))})
        if self._bar:
            self._bar.update(self._task, completed=step, numbers=self._numbers(), left=self._left(step, now))
        elif not self.quiet:
            evaluated = "valid_loss" in metrics or "bits_per_byte" in metrics
            if evaluated or step == self.total or now - self._shown >= INTERVAL:
                self._shown = now
                of = f"/{self.total}" if self.total else ""
                self.message(f"{self.title} {step}{of}  {self._numbers()}  {self._left(step, now)}".rstrip())

    def plan(self, total_steps: int) -> None:
        """Tells how many steps there will be."""
        self.total = total_steps
        if self._bar:
            self._bar.update(self._task, total=total_steps)

    def message(self, text: str) -> None:
        """Shows a line, above the bar where there is one."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def sample(self, prompt: str, text: str) -> None:
        """Shows what the model wrote after a prompt."""
        if self._bar:
            from rich.text import Text

            shown = Text.assemble(("  ", ""), (_visible(prompt), "bold"), (_visible(text), "cyan"))
            self._bar.console.print(shown)
        else:
            self.message(f"  {_visible(prompt)}│{_visible(text)}")

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            TextColumn("{task.fields[left]}", style="dim", markup=False),
            console=Console(stderr=True),
            expand=True,
            refresh_per_second=4,
        )
        self._task = self._bar.add_task(self.title, total=self.total or None, numbers="", left="")
        self._bar.start()

    def _numbers(self) -> str:
        words = {"loss": "loss {:.3f}", "valid_loss": "valid {:.3f}", "bits_per_byte": "{:.3f} bits/byte"}
        words["accuracy"] = "{:.3f} accuracy"
        words["tokens_per_second"] = "{:,.0f} tokens/s"
        return "  ".join(word.format(self._latest[name]) for name, word in words.items() if name in self._latest)

    def _left(self, step: int, now: float) -> str:
        assert self._start is not None
        first, since = self._start
        if step <= first or not self.total:
            return ""
        return f"{duration((self.total - step) * (now - since) / (step - first))} left"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 05 s, 2 h 10 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _visible(text: str) -> str:
    """One line without control characters (a sample may hold a terminal's escape codes)."""
    return "".join("⏎" if char == "\n" else char if char.isprintable() else " " for char in text)
