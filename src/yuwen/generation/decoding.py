"""The cached forward passes of generation: read the prompts once, then one position a token.

logits_n = output(f(ids_n, cache)),           cache += keys and values of n
logits_n = output(decode(ids_n, memory, cache)),  memory = encode(source), once
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from yuwen.models import EncoderDecoder, LeftToRight
from yuwen.models.inference import inference
from yuwen.nn import Causal, Padding

_CHUNK = 1024  # prompt positions read at once: bounds what a long prompt needs beside the cache


class Reading:
    """What a model has read of one text, to go on from: a conversation keeps it between its turns.

    `ids` are in the cache for certain. After an interrupt layers may hold more, which the next `resume` forgets.
    """

    def __init__(self, model: LeftToRight) -> None:
        self.model = model
        self.cache = model.new_cache()
        self.ids: list[int] = []

    def resume(self, ids: Sequence[int]) -> int:
        """Keeps what was read of `ids`, all but their last at most; how many need not be read again."""
        common = 0
        for read, wanted in zip(self.ids, ids[:-1], strict=False):
            if read != wanted:
                break
            common += 1
        if not self.cache.truncate(common):  # a window may have moved on
            self.cache, common = self.model.new_cache(), 0
        del self.ids[common:]
        return common


class Decoding:
    """Rows that grow together. They end in the same slot: shorter prompts are padded at the left.

        slots      0 1 2 3 4 5 ...        row 0   - - a b c x ...       positions   0 0 0 1 2 3 ...
                                          row 1   d e f g h y ...                   0 1 2 3 4 5 ...

    Padding is never looked at, and each row counts its own positions, so a row computes what it would alone. With a
    `reading` there is one prompt, and what of it was read before (`reused` tokens) is not read again.
    """

    def __init__(self, model: LeftToRight, prompts: Sequence[Sequence[int]], reading: Reading | None = None) -> None:
        if reading is not None and len(prompts) != 1:
            raise ValueError(f"a reading is of one text, not of {len(prompts)}")
        self.model = model
        self.begun, self.never = prompts, list[int]()  # what the rows' texts begin with, and what never follows
        self.device = next(model.parameters()).device
        self._reading = reading
        self.reused = 0 if reading is None else reading.resume(prompts[0])
        self._cache = model.new_cache() if reading is None else reading.cache
        self._length_B = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        self._keep_BS: Tensor | None = None  # which slots hold a token; None: all of them

    def prefill(self) -> Tensor:
        """Reads the prompts: logits [B, V] of the token after each."""
        slots = int(self._length_B.max())
        ids_BT = torch.tensor([[0] * (slots - len(row)) + list(row) for row in self.begun], device=self.device)
        padding_B = slots - self._length_B
        positions_BT = (torch.arange(slots, device=self.device) - padding_B[:, None]).clamp(min=0)
        if padding_B.any():
            self._keep_BS = torch.arange(slots, device=self.device) >= padding_B[:, None]
        with inference(self.model):
            for start in range(self.reused, slots, _CHUNK):
                part = slice(start, start + _CHUNK)
                h_BTD = self._forward(ids_BT[:, part], positions_BT[:, part])
            return self.model.output(h_BTD[:, -1:])[:, 0]

    def step(self, ids_B: Tensor) -> Tensor:
        """Adds a token to each row: logits [B, V] of the one after it."""
        with inference(self.model):
            if self._keep_BS is not None:
                self._keep_BS = torch.cat((self._keep_BS, torch.ones_like(self._keep_BS[:, :1])), dim=1)
            h_BTD = self._forward(ids_B[:, None], self._length_B[:, None])
            self._length_B = self._length_B + 1
            return self.model.output(h_BTD)[:, 0]

    def select(self, rows: Sequence[int]) -> None:
        """Keeps the given rows only: those that go on."""
        rows_B = torch.tensor(rows, device=self.device)
        with inference(self.model):
            self._cache.select(rows_B)
            self._length_B = self._length_B[rows_B]
            self._keep_BS = None if self._keep_BS is None else self._keep_BS[rows_B]

    def _forward(self, ids_BT: Tensor, positions_BT: Tensor) -> Tensor:
        mask = None if self._keep_BS is None else Causal() & Padding(self._keep_BS)
        h_BTD = self.model(ids_BT, mask, positions_BT, self._cache)
        if self._reading is not None:
            self._reading.ids += ids_BT[0].tolist()
        return h_BTD


class SourceDecoding:
    """Answers of an encoder–decoder that grow together: their sources are read once, all begin as the model's do.

    Sources are padded at the right, where nobody looks; answers have one length, so a row computes what it would alone.
    """

    reused = 0

    def __init__(self, model: EncoderDecoder, sources: Sequence[Sequence[int]]) -> None:
        self.model = model
        self.begun, self.never = [list(model.opening)] * len(sources), [model.start_id]
        self.device = next(model.parameters()).device
        self._sources = sources
        self._cache = model.new_cache()

    def prefill(self) -> Tensor:
        """Reads the sources: logits [B, V] of each answer's first token."""
        slots = max(map(len, self._sources))
        ids_BS = torch.tensor([[*row, *[0] * (slots - len(row))] for row in self._sources], device=self.device)
        length_B1 = torch.tensor([[len(row)] for row in self._sources], device=self.device)
        self._keep_BS = torch.arange(slots, device=self.device) < length_B1
        with inference(self.model):
            self._memory_BSD = self.model.encode(ids_BS, self._mask())
        return self._forward(torch.tensor(self.begun, device=self.device))

    def step(self, ids_B: Tensor) -> Tensor:
        """Adds a token to each answer: logits [B, V] of the one after it."""
        return self._forward(ids_B[:, None])

    def select(self, rows: Sequence[int]) -> None:
        """Keeps the given rows only, in that order."""
        rows_B = torch.tensor(rows, device=self.device)
        with inference(self.model):
            self._cache.select(rows_B)
            self._memory_BSD, self._keep_BS = self._memory_BSD[rows_B], self._keep_BS[rows_B]

    def _forward(self, ids_BT: Tensor) -> Tensor:
        with inference(self.model):
            h_BTD = self.model.decode(ids_BT, self._memory_BSD, memory_mask=self._mask(), cache=self._cache)
            return self.model.output(h_BTD[:, -1:])[:, 0]

    def _mask(self) -> Padding | None:
        return None if bool(self._keep_BS.all()) else Padding(self._keep_BS)
