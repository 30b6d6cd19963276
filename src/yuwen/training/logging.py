"""What a run writes down: metrics.jsonl, one flushed object a logged step, and the same for TensorBoard."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yuwen.disk import replace_text


class MetricsLog:
    """Appends to `metrics.jsonl` and to TensorBoard events in the run folder.

    Resuming cuts the file back to the checkpoint's step, so that it reads as if nothing had happened.
    """

    def __init__(self, run: Path, *, resumed_at: int = 0, tensorboard: bool = True) -> None:
        self.path = run / "metrics.jsonl"
        cut_back(self.path, resumed_at or -1)  # a fresh start measures step 0 anew
        self._file = self.path.open("a", encoding="utf-8")
        self._events = _Events(run, purge=resumed_at) if tensorboard else None

    def write(self, metrics: Mapping[str, Any]) -> None:
        """One logged step."""
        self._file.write(json.dumps(metrics) + "\n")
        self._file.flush()
        if self._events is not None:
            self._events.write(metrics)

    def close(self) -> None:
        """Waits until the disk has all. What a full disk refused has been told by `write` already."""
        try:
            os.fsync(self._file.fileno())
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            if self._events is not None:
                self._events.close()


def cut_back(path: Path, step: int) -> None:
    """Drops the lines after `step` from a file of JSON objects, and a line that a crash cut short."""
    if path.is_file():
        kept = [line for line in read_metrics(path) if line["step"] <= step]
        replace_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The logged steps; a last line that a crash cut short is left out."""
    metrics: list[dict[str, Any]] = []
    if path.is_file():
        # A text may hold other breaks, and a crash may have cut within a character.
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            try:
                metrics.append(json.loads(line))
            except ValueError:
                break
    return metrics


class _Events:
    """TensorBoard scalars, through its own writer: `torch.utils.tensorboard` would take a second more to import."""

    def __init__(self, run: Path, purge: int) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if not purge:  # of a start that was given up before its first checkpoint
            for events in run.glob("events.out.tfevents.*"):
                events.unlink()
        self._writer = EventFileWriter(str(run))
        if purge:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog

            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(step=purge + 1, session_log=start))  # what lies beyond is void

    def write(self, metrics: Mapping[str, Any]) -> None:
        import time

        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [
            Summary.Value(tag=name, simple_value=float(value))
            for name, value in metrics.items()
            if name != "step" and isinstance(value, int | float)
        ]
        self._writer.add_event(Event(wall_time=time.time(), step=metrics["step"], summary=Summary(value=values)))

    def close(self) -> None:
        self._writer.close()
