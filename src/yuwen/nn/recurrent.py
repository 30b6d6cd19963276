"""Recurrence: a state of fixed size that each token changes, and that is all a model knows of what it has read.

    h_t = f(W x_t + U h_{t-1} + b)

A layer's weights: `input` W [G H, D], `recurrent` U [G H, H], `bias` b [G H], G gates' rows behind each other.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from yuwen.nn.dropout import drop_mask, drop_scale, dropout
from yuwen.nn.mask import Both, Causal, Documents, Mask, Padding

State = tuple[Tensor, ...]  # [B, H] each
Piece = tuple[int, int, Tensor | None]  # start, end, rows [B] that begin anew at `start`


class Recurrence(nn.Module):
    """What the recurrent layers share. x [B, T, D], state -> all states h [B, T, H], the last state.

    The T positions are read in the given `stretches` (`pieces`), or in one. With `weight_drop` each weight of U is
    dropped with that probability, the same ones at all positions (DropConnect on the recurrent matrix: Merity et al.
    2018, section 2): a dropout that the state cannot wash out.
    """

    GATES: ClassVar[int]
    STATE: ClassVar[tuple[str, ...]]  # what a state consists of

    def __init__(self, width: int, hidden: int, *, weight_drop: float = 0.0) -> None:
        super().__init__()
        self.hidden, self.weight_drop = hidden, weight_drop
        self.input = nn.Parameter(torch.empty(self.GATES * hidden, width))
        self.recurrent = nn.Parameter(torch.empty(self.GATES * hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(self.GATES * hidden))

    def forward(
        self, x_BTD: Tensor, state: State | None = None, stretches: Sequence[Piece] | None = None
    ) -> tuple[Tensor, State]:
        recurrent: Tensor = self.recurrent
        if self.training and self.weight_drop:
            recurrent = dropout(recurrent, self.weight_drop)
        state = state or self.start(x_BTD)
        parts = []
        for start, end, anew_B in stretches or [(0, x_BTD.shape[1], None)]:
            state = state if anew_B is None else forgotten(state, anew_B)
            h_BtH, state = self.run(x_BTD[:, start:end], state, recurrent)
            parts.append(h_BtH)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1), state

    def start(self, x_BTD: Tensor) -> State:
        """The state before the first token: zeros."""
        return tuple(x_BTD.new_zeros(len(x_BTD), self.hidden) for _ in self.STATE)

    def run(self, x_BTD: Tensor, state: State, recurrent: Tensor) -> tuple[Tensor, State]:
        """The recurrence itself, with this U."""
        raise NotImplementedError


class ElmanRNN(Recurrence):
    """h_t = tanh(W x_t + U h_{t-1} + b) (Elman 1990)."""

    GATES, STATE = 1, ("hidden",)

    def run(self, x_BTD: Tensor, state: State, recurrent: Tensor) -> tuple[Tensor, State]:
        weights = [self.input, recurrent, self.bias, torch.zeros_like(self.bias)]
        h_BTH, last_1BH = torch.rnn_tanh(x_BTD, state[0][None], weights, True, 1, 0.0, self.training, False, True)
        return h_BTH, (last_1BH[0],)


class LSTM(Recurrence):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers et al. 2000).

        i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the four parts of W x_t + U h_{t-1} + b
        c_t = f * c_{t-1} + i * g
        h_t = o * tanh(c_t)

    A state is (h, c). Along c nothing is squeezed, so gradients live as long as f stays near 1.
    """

    GATES, STATE = 4, ("hidden", "cell")

    def run(self, x_BTD: Tensor, state: State, recurrent: Tensor) -> tuple[Tensor, State]:
        weights = [self.input, recurrent, self.bias, torch.zeros_like(self.bias)]
        start = [part_BH[None] for part_BH in state]
        h_BTH, *last = torch.lstm(x_BTD, start, weights, True, 1, 0.0, self.training, False, True)
        return h_BTH, tuple(part_1BH[0] for part_1BH in last)


class LockedDropout(nn.Module):
    """Dropout that drops the same coordinates at every position of a row (Gal & Ghahramani 2016, section 4).

    [B, T, D] -> [B, T, D]. While training only.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x_BTD: Tensor) -> Tensor:
        if not (self.training and self.rate):
            return x_BTD
        kept_B1D = drop_mask(x_BTD[:, :1], self.rate)
        return x_BTD * (kept_B1D.to(x_BTD.dtype) * drop_scale(self.rate))


class WordDropout(nn.Module):
    """Drops words of the vocabulary, each wherever it stands (Gal & Ghahramani 2016, section 4.2), while training.

    x [B, T, D], the embedded ids [B, T] -> [B, T, D]. The others are scaled up, so that the mean stays.
    """

    def __init__(self, vocabulary: int, rate: float) -> None:
        super().__init__()
        self.vocabulary, self.rate = vocabulary, rate

    def forward(self, x_BTD: Tensor, ids_BT: Tensor) -> Tensor:
        if not (self.training and self.rate):
            return x_BTD
        kept_V = drop_mask(x_BTD.new_empty(self.vocabulary), self.rate)
        return x_BTD * (kept_V[ids_BT].to(x_BTD.dtype) * drop_scale(self.rate))[..., None]


class RecurrentCache:
    """The states of all layers after what has been read: of one size, however long the text."""

    def __init__(self, names: Sequence[Sequence[str]]) -> None:
        """`names`: what each layer's state consists of."""
        self.length = 0
        self.states: list[State | None] = [None] * len(names)
        self._names = names

    def put(self, states: Sequence[State], positions: int) -> None:
        """The states after so many more positions."""
        self.states = list(states)
        self.length += positions

    def truncate(self, length: int) -> bool:
        """A state cannot be read backwards: it can be kept whole, or forgotten whole."""
        if length == 0:
            self.states, self.length = [None] * len(self.states), 0
        return length == self.length

    def select(self, rows_B: Tensor) -> None:
        """Keeps the given batch rows, in that order."""
        self.states = [state and tuple(part[rows_B] for part in state) for state in self.states]

    def branch(self, rows_B: Tensor) -> RecurrentCache:
        """Another cache, of the given batch rows; this one stays as it is."""
        twin = copy.copy(self)
        twin.select(rows_B)
        return twin

    def forget(self, rows_B: Tensor) -> None:
        """Starts anew where `rows_B` (bool) is true."""
        self.states = [state and forgotten(state, rows_B) for state in self.states]

    def tensors(self) -> dict[str, Tensor]:
        """All states by name, [B, H] each."""
        return {
            f"{n}.{name}": part
            for n, (names, state) in enumerate(zip(self._names, self.states, strict=True))
            if state is not None
            for name, part in zip(names, state, strict=True)
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes up such states: what was read before them is not counted."""
        self.states = [tuple(tensors[f"{n}.{name}"] for name in names) for n, names in enumerate(self._names)]
        self.length = 0


def forgotten(state: State, rows_B: Tensor) -> State:
    """The state with zeros in the rows where `rows_B` is true."""
    return tuple(part_BH.masked_fill(rows_B[:, None], 0) for part_BH in state)


def pieces(mask: Mask | None, batch: int, T: int, past: int, device: torch.device) -> list[Piece]:
    """(start, end, rows [B] that begin anew at `start` or None) of the stretches to be read without a break.

    A row begins anew where a token may not look at the slot before it: at a packed document, behind padding at the
    left. ValueError for a mask that no state can obey: one that hides some of the past and shows what lies before.
    """
    if mask is None or isinstance(mask, Causal):
        return [(0, T, None)]
    _check(mask)
    slots = torch.arange(past + T, device=device)
    table_BTS = (mask & Causal()).table(slots[past:], slots)[:, 0].expand(batch, T, past + T)
    itself_BT = table_BTS.diagonal(past, 1, 2)
    before_BT = torch.ones_like(itself_BT)
    before_BT[:, int(past == 0) :] = table_BTS.diagonal(past - 1, 1, 2)
    anew_BT = itself_BT & ~before_BT  # what pads the right may go on as it likes
    if bool((anew_BT & table_BTS.tril(past - 2).any(-1)).any()):
        raise ValueError("a recurrence cannot overlook a part of the past: this mask shows what lies before it")
    cuts = sorted({0, *anew_BT.any(0).nonzero()[:, 0].tolist()})
    return [
        (start, end, anew_BT[:, start] if bool(anew_BT[:, start].any()) else None)
        for start, end in zip(cuts, [*cuts[1:], T], strict=True)
    ]


def _check(mask: Mask) -> None:
    if isinstance(mask, Both):
        _check(mask.one)
        _check(mask.other)
    elif not isinstance(mask, Causal | Padding | Documents):
        raise ValueError(f"a recurrence reads from left to right, all of it: {type(mask).__name__} is not for it")
