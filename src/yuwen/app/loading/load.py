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

from yuwen.app.loading.sources import resolve
from yuwen.disk import sha256
from yuwen.errors import UserError
from yuwen.interop import load_classifier, load_folder
from yuwen.interop.weight_files import find_weights
from yuwen.models import Classifier, Encoder, EncoderDecoder, LeftToRight, Model, family
from yuwen.nn import Causal, LearnedPositions, Mask, Padding

if TYPE_CHECKING:
    from yuwen.generation import Generation
    from yuwen.tokens import Tokenizer

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Ids = Tensor | Sequence[int] | Sequence[Sequence[int]]
Keep = Tensor | Sequence[bool] | Sequence[Sequence[bool]]


@dataclass(frozen=True)
class Loaded:
    """A model ready for use: in evaluation mode, its weights mapped from `path`, a folder or a .gguf file."""

    source: str
    path: Path
    model: Model
    tokenizer: Tokenizer | None
    ends: tuple[int, ...] = ()  # the tokens that a .gguf file says end a text
    classifier: Classifier | None = None  # `model` with the head for classes that it was trained with

    @property
    def family(self) -> str:
        """Name of the architecture: "qwen3", "gemma3", "bert" …"""
        return family(self.model.config.MODEL_TYPE).name

    @property
    def encoder(self) -> bool:
        """Whether it reads from both sides: it fills and embeds, and cannot continue a text."""
        return isinstance(self.model, Encoder)

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the weights: of one file as sha256sum prints it; of shards, of their sums in order."""
        files = [self.path] if self.path.is_file() else find_weights(self.path)
        sums = [sha256(path) for path in files]
        return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()

    @functools.cached_property
    def chat(self) -> bool:
        """Whether it answers messages by a chat template rather than continues text."""
        from yuwen.generation import is_chat

        if self.tokenizer is None or not isinstance(self.model, LeftToRight):
            return False
        return self.tokenizer.chat_template is not None if self.path.is_file() else is_chat(self.path, self.tokenizer)

    @functools.cached_property
    def end_ids(self) -> list[int]:
        """The tokens that end a text: those its settings name, and the tokenizer's own."""
        from yuwen.generation import end_ids

        if self.path.is_dir():
            return end_ids(self.path, self.tokenizer)
        return sorted({*self.ends, *(() if self.tokenizer is None else self.tokenizer.stop_ids)})

    @functools.cached_property
    def search_wanted(self) -> dict[str, Any]:
        """What an encoder–decoder's folder says of the search for its answers, none of which is taken over."""
        from yuwen.generation import search_wanted

        return search_wanted(self.path) if isinstance(self.model, EncoderDecoder) and self.path.is_dir() else {}

    def hidden(self, ids_BT: Ids, keep: Keep | None = None, *, decoder_ids: Ids | None = None) -> Tensor:
        """Hidden states after the last norm: ids [B, T], or [T] for one sequence -> [B, T, D].

        `keep`, in the shape of the ids, is False on padding: on either side for a decoder, at the end for an encoder.
        What stands there comes back without meaning. An encoder–decoder gives the states of `decoder_ids`, which begin
        with its start token, beside the source ids; without them those of the source.
        """
        ids = self._ids(ids_BT)
        kept_BT = None if keep is None else self._kept(keep, ids)
        if isinstance(self.model, EncoderDecoder):
            return self._of_pairs(self.model, ids, kept_BT, decoder_ids)
        if decoder_ids is not None:
            raise UserError(f"a {self.family} reads one text: leave decoder_ids out")
        with torch.no_grad():
            if kept_BT is None or bool(kept_BT.all()):
                return self.model(ids)
            if isinstance(self.model, LeftToRight):
                return self.model(ids, Causal() & Padding(kept_BT), (kept_BT.cumsum(1) - 1).clamp(min=0))
            return self.model(ids, self._right_padded(kept_BT))

    def logits(self, ids_BT: Ids, decoder_ids: Ids | None = None, *, keep: Keep | None = None) -> Tensor:
        """Scores [B, T, V]: of every next token, or of the word at each position for an encoder; `keep` as above.

        Of an encoder–decoder: of the token that follows each of `decoder_ids`, the answer to the source `ids`.
        UserError for an encoder without a masked-word head, and for an encoder–decoder without an answer to score.
        """
        if decoder_ids is None and isinstance(self.model, EncoderDecoder):
            raise UserError(f"a {self.family} scores an answer: give decoder_ids, from {list(self.model.opening)} on")
        h_BTD = self.hidden(ids_BT, keep, decoder_ids=decoder_ids)
        with torch.no_grad():
            return self.model.output(h_BTD)

    def generate(self, prompt: str | Sequence[int], *, raw: bool = False, **sampling: Any) -> Generation:
        """Continues a prompt, text or ids; `sampling` are the fields of SamplingConfig (max_tokens, temperature, …).

        A chat model takes text as a user's message, unless `raw`; an encoder–decoder answers it. UserError for text
        without a tokenizer, a prompt longer than the context, or an encoder.
        """
        from yuwen.generation import SamplingConfig, generate

        settings = SamplingConfig.parse("", sampling)
        ids = self.prompt_ids(prompt, raw=raw) if isinstance(prompt, str) else prompt
        return generate(self.model, [ids], settings, tokenizer=self.tokenizer, end_ids=self.end_ids)[0]

    def prompt_ids(self, prompt: str, *, raw: bool = False) -> list[int]:
        """Ids of a text as this model takes it: to be continued, as a message to be answered, or as a source."""
        from yuwen.generation import prompt_ids, source_ids

        if self.tokenizer is None:
            raise UserError(f"{self.path}: the model comes without a tokenizer: give ids, not text")
        if self.classifier is not None:
            raise UserError(f"{self.path}: this model tells classes and does not write: use `yuwen apply classify`")
        if isinstance(self.model, EncoderDecoder):
            if raw:
                raise UserError(f"{self.path}: a {self.family} answers a source and continues nothing: leave out raw")
            return source_ids(prompt, self.tokenizer)
        return prompt_ids(prompt, self.tokenizer, chat=self.chat and not raw)

    def _of_pairs(self, model: EncoderDecoder, ids: Tensor, kept: Tensor | None, decoder_ids: Ids | None) -> Tensor:
        mask = None if kept is None or bool(kept.all()) else self._right_padded(kept)
        with torch.no_grad():
            if decoder_ids is None:
                return model.encode(ids, mask)
            answer = self._ids(decoder_ids)
            if len(answer) != len(ids):
                raise UserError(f"{len(answer)} rows of decoder_ids beside {len(ids)} of ids: each answers one source")
            return model(ids, answer, mask)

    def _right_padded(self, kept_BT: Tensor) -> Mask:
        if bool((kept_BT[:, 1:] > kept_BT[:, :-1]).any()):
            raise UserError(f"a {self.family} counts positions from the left: padding must stand at the right")
        return Padding(kept_BT)

    def _kept(self, keep: Keep, ids_BT: Tensor) -> Tensor:
        kept = torch.as_tensor(keep, dtype=torch.bool)
        kept = kept[None] if kept.dim() == 1 else kept
        if kept.shape != ids_BT.shape:
            raise UserError(f"keep must have the shape of the ids, {list(ids_BT.shape)}, not {list(kept.shape)}")
        return kept

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
        ends = any(isinstance(part, LearnedPositions) for part in self.model.modules())
        if ends and ids.shape[1] > self.model.config.context:
            raise UserError(
                f"{ids.shape[1]} ids are more than the {self.model.config.context} positions this model has"
            )
        return ids.long()


def load(source: str | Path, dtype: str | torch.dtype | None = "float32") -> Loaded:
    """Loads MODEL (a run, a folder, a .gguf file, hf:org/name, pypi:package) to compute in `dtype`; None: as stored.

    Never runs code that comes with a model. UserError if there is no such model or it does not hold together.
    """
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise UserError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        dtype = DTYPES[dtype]
    path = resolve(str(source))
    if path.is_file():
        from yuwen.interop.gguf import GGUFFile, gguf_generation, load_gguf
        from yuwen.tokens import template

        file = GGUFFile(path)
        said = gguf_generation(file)
        if said["yuwen"]["chat"]:
            template.start()  # beside the weights, so that the first message finds it ready
        return Loaded(str(source), path, *load_gguf(file, dtype), ends=tuple(said.get("eos_token_id", ())))
    if (found := load_classifier(path, dtype)) is not None:
        classifier, tokenizer = found
        return Loaded(str(source), path, classifier.body, tokenizer, classifier=classifier)
    model, tokenizer = load_folder(path, dtype)
    if model.config.COUNTS and dtype not in (None, torch.float32):
        raise UserError(
            f"dtype {str(dtype).removeprefix('torch.')}: {source} was counted, and its probabilities, once rounded, no"
            " longer sum to one: leave it out"
        )
    return Loaded(str(source), path, model, tokenizer)
