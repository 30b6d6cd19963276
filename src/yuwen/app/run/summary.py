"""What a finished run came to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yuwen.disk import replace_text


@dataclass
class Summary:
    """The numbers of a run; also `summary.json` in its folder. `best_loss` is the validation loss of its checkpoint
    `best`: an evaluation between two checkpoints may have been lower."""

    run: str
    steps: int
    tokens: int
    seconds: float
    parameters: int
    best_loss: float | None
    objective: str = "causal"
    flops_per_token: float | None = None  # forward and backward; None where nothing is multiplied
    stages: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where it stands."""
        return Path(self.run) / "summary.json"

    @property
    def is_written(self) -> bool:
        """Whether the file tells of these steps: that of an earlier end, from which the run went on, does not."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(found, dict) and found.get("steps") == self.steps

    def write(self) -> None:
        """Puts it into the run's folder."""
        replace_text(self.path, json.dumps(vars(self), ensure_ascii=False, indent=1))
