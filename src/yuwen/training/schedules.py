"""How the learning rate moves: a factor between 0 and 1 as a pure function of the step."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from yuwen.config import Config


class ScheduleConfig(Config):
    """Warm-up, then a shape.

    constant  stays at 1
    linear    falls straight to `final`
    cosine    falls along half a cosine to `final` (Loshchilov & Hutter 2017)
    warmdown  stays at 1, then falls straight to `final` over the last `cooldown` of the steps (Zhai et al. 2022;
              Hägele et al. 2024)

    `warmup` and `cooldown` are fractions of all steps when below 1, else numbers of steps.
    """

    name: Literal["constant", "linear", "cosine", "warmdown"] = "warmdown"
    warmup: float = Field(default=0.02, ge=0)
    cooldown: float = Field(default=0.5, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _no_setting_ignored(self) -> Self:
        if self.name != "warmdown" and self.cooldown != type(self).model_fields["cooldown"].default:
            raise ValueError(f"cooldown={self.cooldown} is of name=warmdown, {self.name} would ignore it: leave it out")
        if self.name == "constant" and self.final:
            raise ValueError(f"final={self.final}: name=constant never falls: leave it out")
        return self

    def rise(self, total: int) -> int:
        """The steps of the warm-up, of `total`."""
        return _steps(self.warmup, total)

    def factor(self, step: int, total: int) -> float:
        """The factor for step `step` (from 0) of `total`."""
        warmup = self.rise(total)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if self.name == "constant":
            return 1.0
        if self.name == "warmdown":
            cooldown = max(1, min(_steps(self.cooldown, total), total - warmup))  # it falls from where it has risen to
            left = min(1.0, max(0, total - step) / cooldown)
        else:
            left = 1 - min(1.0, (step - warmup) / max(1, total - warmup))
        if self.name == "cosine":
            left = (1 - math.cos(math.pi * left)) / 2
        return self.final + (1 - self.final) * left


def _steps(amount: float, total: int) -> int:
    return round(amount * total) if amount < 1 else round(amount)
