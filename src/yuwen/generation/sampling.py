"""From scores to the next token.

    p = softmax(filters(scores / temperature)),  token ~ p

Every filter is a function [B, V] -> [B, V] that sets what may not be drawn to minus infinity. They act in the order of
`transformers` and leave the same sets: repetition penalty, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor
from typing_extensions import Self

from yuwen.config import Config
from yuwen.models.inference import refuse_not_finite

if TYPE_CHECKING:
    from yuwen.generation.constrained import Guide

Filter = Callable[[Tensor], Tensor]
_NEVER = float("-inf")
GREEDY_IGNORES = frozenset({"top_k", "top_p", "min_p"})  # of the fields, by greedy decoding; any seed gives its text
_DRAWING = GREEDY_IGNORES | {"temperature", "seed"}
_LIKELY = 1024  # a vocabulary of 262,144 takes 48 ms to sort, and 1 ms to find this many of


class SamplingConfig(Config):
    """How text is drawn. The defaults suit a small language model that goes on; temperature 0 is greedy."""

    max_tokens: int = Field(default=256, gt=0)
    temperature: float = Field(default=0.8, ge=0)
    top_k: int = Field(default=0, ge=0, description="0: off")
    top_p: float = Field(default=0.95, gt=0, le=1, description="1: off")
    min_p: float = Field(default=0.0, ge=0, le=1, description="0: off")
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=100, description="1: off")
    stop: tuple[str, ...] = Field(default=(), description="strings that end the text; they are not shown")
    seed: int = Field(default=0, ge=0, lt=2**63)
    beams: int = Field(default=1, ge=1, le=1024, description="1: off; more: beam search, which draws nothing")
    length_penalty: float = Field(default=0.6, ge=0, le=10, description="of beam search, A of Wu et al. 2016, eq. 14")

    @property
    def draws(self) -> bool:
        """Whether a setting was given that says how to draw."""
        return bool(self.model_fields_set & _DRAWING)

    @field_validator("stop")
    @classmethod
    def _visible(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if "" in stop:
            raise ValueError("a stop string must not be empty")
        return stop

    @model_validator(mode="after")
    def _no_setting_ignored(self) -> Self:
        if self.beams > 1:
            ignored = sorted(self.model_fields_set & {*_DRAWING, "repetition_penalty", "stop"})
            if ignored:
                raise ValueError(f"beam search would ignore {', '.join(ignored)}: leave one of them out")
        elif "length_penalty" in self.model_fields_set:
            raise ValueError("length_penalty is of beam search: set beams to 2 or more")
        ignored = sorted(self.model_fields_set & GREEDY_IGNORES)
        if self.temperature == 0 and ignored:
            raise ValueError(
                f"greedy decoding (temperature 0) would ignore {', '.join(ignored)}: leave one of them out"
            )
        return self


def repetition_penalty(scores_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """s / penalty if s > 0 else s * penalty, for every token already seen (Keskar et al. 2019, CTRL, section 4.1)."""
    return torch.where(seen_BV, torch.where(scores_BV < 0, scores_BV * penalty, scores_BV / penalty), scores_BV)


def only(scores_BV: Tensor, allowed_BV: np.ndarray) -> Tensor:
    """Keeps the tokens that a grammar allows."""
    return scores_BV.masked_fill(torch.from_numpy(~allowed_BV).to(scores_BV.device), _NEVER)


def temperature(scores_BV: Tensor, value: float) -> Tensor:
    """s / temperature, after shifting the best score to 0 so that no small temperature overflows."""
    return (scores_BV - scores_BV.amax(-1, keepdim=True)) / max(value, torch.finfo(scores_BV.dtype).tiny)


def top_k(scores_BV: Tensor, k: int) -> Tensor:
    """Keeps the k best scores, and what ties with the last of them (Fan et al. 2018, section 5)."""
    worst_B1 = scores_BV.topk(min(k, scores_BV.shape[1])).values[:, -1:]
    return scores_BV.masked_fill(scores_BV < worst_B1, _NEVER)


def top_p(scores_BV: Tensor, p: float) -> Tensor:
    """Keeps the smallest set of best tokens whose probability reaches p (Holtzman et al. 2020, eq. 2)."""
    p_BV = scores_BV.softmax(-1)
    best = p_BV.topk(min(_LIKELY, p_BV.shape[1]))
    if bool((best.values.sum(-1) >= p).all()):  # then all others are out
        ids_BN, others_B1 = best.indices.sort().values, 1 - best.values.sum(-1, keepdim=True)
        ids_BN = ids_BN.gather(1, scores_BV.gather(1, ids_BN).argsort(stable=True))  # from the least likely on
    else:
        ids_BN, others_B1 = scores_BV.argsort(), torch.zeros_like(p_BV[:, :1])
    out_BN = others_B1 + p_BV.gather(1, ids_BN).cumsum(-1) <= 1 - p  # the tail that is not needed to reach p
    out_BN[:, -1] = False
    return scores_BV.masked_fill(torch.ones_like(p_BV, dtype=torch.bool).scatter(1, ids_BN, out_BN), _NEVER)


def min_p(scores_BV: Tensor, p: float) -> Tensor:
    """Keeps tokens at least p times as probable as the best one (Nguyen et al. 2024)."""
    probabilities_BV = scores_BV.softmax(-1)
    return scores_BV.masked_fill(probabilities_BV < p * probabilities_BV.amax(-1, keepdim=True), _NEVER)


def filters(config: SamplingConfig) -> list[Filter]:
    """The filters that the settings ask for, in order."""
    asked: list[Filter] = []
    if config.temperature != 1:
        asked.append(partial(temperature, value=config.temperature))
    if config.top_k:
        asked.append(partial(top_k, k=config.top_k))
    if config.top_p < 1:
        asked.append(partial(top_p, p=config.top_p))
    if config.min_p:
        asked.append(partial(min_p, p=config.min_p))
    return asked


class Sampler:
    """Draws the next token of every row. Each row has a generator of its own, so its company changes nothing.

    `prompts` are what the rows have seen already, `seeds` one per row; ids from `vocabulary` on are never drawn, nor
    those of `never`, nor those that a row's guide does not allow.
    """

    def __init__(
        self,
        config: SamplingConfig,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        vocabulary: int,
        device: torch.device,
        guides: Sequence[Guide] | None = None,
        never: Sequence[int] = (),
    ) -> None:
        self.config, self.vocabulary, self.guides, self.never = config, vocabulary, guides, list(never)
        self.greedy = config.temperature == 0
        self.filters = [] if self.greedy else filters(config)
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.seen_BV: Tensor | None = None
        if config.repetition_penalty != 1:
            self.seen_BV = torch.zeros(len(prompts), vocabulary, dtype=torch.bool, device=device)
            for row, prompt in enumerate(prompts):
                self.seen_BV[row, [id for id in prompt if id < vocabulary]] = True

    def __call__(self, logits_BV: Tensor) -> Tensor:
        """Ids [B] for logits [B, V]. UserError if the scores are not numbers."""
        scores_BV = logits_BV[:, : self.vocabulary].float()
        refuse_not_finite("scores are", scores_BV.amax(-1))  # single ones may be minus infinity
        if self.seen_BV is not None:
            scores_BV = repetition_penalty(scores_BV, self.seen_BV, self.config.repetition_penalty)
        if self.never:
            scores_BV = scores_BV.index_fill(1, torch.tensor(self.never, device=scores_BV.device), _NEVER)
        if self.guides is not None:
            scores_BV = only(scores_BV, np.stack([guide.allowed()[: self.vocabulary] for guide in self.guides]))
        for keep in self.filters:
            scores_BV = keep(scores_BV)
        ids_B = scores_BV.argmax(-1) if self.greedy else self._draw(scores_BV.softmax(-1))
        if self.seen_BV is not None:
            self.seen_BV.scatter_(1, ids_B[:, None], True)
        return ids_B

    def select(self, rows: Sequence[int]) -> None:
        """Keeps the given rows only."""
        self.generators = [self.generators[row] for row in rows]
        self.guides = None if self.guides is None else [self.guides[row] for row in rows]
        if self.seen_BV is not None:
            self.seen_BV = self.seen_BV[list(rows)]

    def _draw(self, probabilities_BV: Tensor) -> Tensor:
        drawn = []
        for row_V, generator in zip(probabilities_BV, self.generators, strict=True):
            left = row_V.nonzero()[:, 0]  # a random number is made for each that could be drawn
            drawn.append(left[torch.multinomial(row_V[left], 1, generator=generator)])
        return torch.cat(drawn)
