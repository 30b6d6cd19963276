"""`yuwen.load(MODEL)`: one object with the model, its tokenizer, and what one does with them."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from yuwen.app.sources import resolve
from yuwen.errors import UserError
from yuwen.interop import load_folder
from yuwen.interop.weight_files import find_weights
from yuwen.models import Decoder

if TYPE_CHECKING:
    from yuwen.generation import Generation
    from yuwen.tokens import Tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Ids = Tensor | Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class Loaded:
    """A model ready for use: in evaluation mode, its weights mapped from `path`."""

    source: str
    path: Path
    model: Decoder
    tokenizer: Tokenizer | None

    @property
    def family(self) -> str:
        """Name of the architecture: "qwen3", "llama", "gpt2"."""
        return self.model.config.MODEL_TYPE

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the weights: of model.safetensors as sha256sum prints it; of shards, of their sums in order."""
        sums = [_sha256(path) for path in find_weights(self.path)]
        return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()

    def hidden(self, ids_BT: Ids) -> Tensor:
        """Hidden states after the last norm: ids [B, T], or [T] for one sequence -> [B, T, D]."""
        with torch.no_grad():
            return self.model(self._ids(ids_BT))

    def logits(self, ids_BT: Ids) -> Tensor:
        """Scores of every next token: ids [B, T], or [T] for one sequence -> [B, T, V]."""
        with torch.no_grad():
            return self.model.output(self.model(self._ids(ids_BT)))

    def generate(self, prompt: str | Sequence[int], *, raw: bool = False, **sampling: Any) -> Generation:
        """Continues a prompt, text or ids; `sampling` are the fields of SamplingConfig (max_tokens, temperature, …).

        A chat model takes text as a user's message, unless `raw`. UserError for text without a tokenizer, or a prompt
        longer than the context.
        """
        from yuwen.generation import SamplingConfig, end_ids, generate, is_chat, prompt_ids

        settings = SamplingConfig.parse("", sampling)
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise UserError(f"{self.path}: the model comes without a tokenizer: give ids, not text")
            prompt = prompt_ids(prompt, self.tokenizer, chat=is_chat(self.path, self.tokenizer) and not raw)
        ends = [] if self.tokenizer is None else end_ids(self.path, self.tokenizer)
        return generate(self.model, [prompt], settings, tokenizer=self.tokenizer, end_ids=ends)[0]

    def _ids(self, ids_BT: Ids) -> Tensor:
        try:
            ids = torch.as_tensor(ids_BT)
        except (ValueError, TypeError) as error:
            raise UserError(f"ids must be integers, in rows of one length ({error})") from None
        ids = ids[None] if ids.dim() == 1 else ids
        if ids.dim() != 2 or ids.numel() == 0 or ids.is_floating_point() or ids.dtype == torch.bool:
            raise UserError(
                f"ids must be integers of shape [batch, length], not {ids.dtype} of shape {list(ids.shape)}"
            )
        low, high, vocabulary = int(ids.min()), int(ids.max()), self.model.config.vocabulary
        if low < 0 or high >= vocabulary:
            raise UserError(f"id {low if low < 0 else high} is outside the model's vocabulary of {vocabulary}")
        if self.model.positions is not None and ids.shape[1] > self.model.config.context:
            raise UserError(
                f"{ids.shape[1]} ids are more than the {self.model.config.context} positions this model has"
            )
        return ids.long()


def load(source: str | Path, dtype: str | torch.dtype | None = "float32") -> Loaded:
    """Loads MODEL (a run folder, a Hugging Face folder, hf:org/name) to compute in `dtype`; None: as it is stored.

    Never runs code that comes with a model. UserError if there is no such model or it does not hold together.
    """
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise UserError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        dtype = DTYPES[dtype]
    path = resolve(str(source))
    model, tokenizer = load_folder(path, dtype)
    return Loaded(str(source), path, model, tokenizer)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
