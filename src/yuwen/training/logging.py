"""What a run writes down: metrics.jsonl, one flushed object a logged step, and the same for TensorBoard."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends to `metrics.jsonl` and to TensorBoard events in the run folder.

    Resuming cuts the file back to the checkpoint's step, so that it reads as if nothing had happened.
    """

    def __init__(self, run: Path, *, resumed_at: int = 0, tensorboard: bool = True) -> None:
        self.path = run / "metrics.jsonl"
        kept = [line for line in read_metrics(self.path) if line["step"] <= resumed_at] if resumed_at else []
        temporary = run / ".metrics.jsonl"
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")
        self._events = _Events(run, purge=resumed_at) if tensorboard else None

    def write(self, metrics: Mapping[str, Any]) -> None:
        """One logged step."""
        self._file.write(json.dumps(metrics) + "\n")
        self._file.flush()
        if self._events is not None:
            self._events.write(metrics)

    def close(self) -> None:
        """Flushes to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._events is not None:
            self._events.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The logged steps; a last line that a crash cut short is left out."""
    metrics: list[dict[str, Any]] = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                metrics.append(json.loads(line))
            except ValueError:
                break
    return metrics


class _Events:
    """TensorBoard scalars, through its own writer: `torch.utils.tensorboard` would take a second more to import."""

    def __init__(self, run: Path, purge: int) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

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
