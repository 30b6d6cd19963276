"""Loss, perplexity and bits per byte.

    loss          = - 1/N  sum_n log p(t_n | t_<n)                    nats per token
    perplexity    = exp(loss)
    bits per byte = - sum_n log p(t_n | t_<n) / (ln 2 · UTF-8 bytes of the scored text)

Tokens of different tokenizers are not comparable, bytes are: bits per byte ranks any two models on the same text.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from yuwen.errors import UserError
from yuwen.evaluation.in_order import InOrder
from yuwen.evaluation.pairs import continued, filler
from yuwen.evaluation.part import LOGITS, Part
from yuwen.evaluation.pseudo import MaskedWord, Teller, told
from yuwen.evaluation.tokens import Tokens, token_stream
from yuwen.evaluation.windows import Window, windows
from yuwen.models import Encoder, EncoderDecoder, LeftToRight, Model, left_to_right
from yuwen.models.inference import inference, refuse_not_finite
from yuwen.models.left_to_right import Cache
from yuwen.models.xlnet import TwoStream
from yuwen.text import Document
from yuwen.tokens import Tokenizer

_LONGEST = 2048  # tokens: the default window of a model with a longer context
_TOKENS = 8192  # the default batch holds about as many


@dataclass(frozen=True)
class Score:
    """What a model loses on a text."""

    loss: float  # nats per token
    perplexity: float
    bits_per_byte: float | None  # None if anything became an unknown token
    tokens: int  # that were scored
    bytes: int  # of the original text that they stand for
    seconds: float
    pseudo: bool = False  # each token was told from both sides: no likelihood (`evaluation.pseudo`)


def evaluate(
    model: Model,
    tokenizer: Tokenizer,
    documents: Iterable[Document],
    *,
    window: int | None = None,
    stride: int | None = None,
    batch: int | None = None,
    every: int = 1,
    refuse_unknown: bool = True,
    learnt: str | None = None,
) -> Score:
    """Scores documents as they stream by; memory does not grow with them, the result does not depend on `batch`.

    `window` (default: the model's context, at most 2048) tokens are read at once, a new window begins every `stride`
    (default: half a window), `batch` windows (default: about 8192 tokens) are scored together. A model that reads both
    sides tells each token in turn from all others of its window, one forward pass each (`Score.pseudo`), or each span
    of an encoder–decoder's: `every` n-th is enough for an estimate. `learnt` names the objective that an
    encoder–decoder was trained by, where its tokenizer does not show what it can tell. With `refuse_unknown` false,
    text that the tokenizer cannot write costs the bits per byte only. One that carries a state takes it from window to
    window (stride = window): each token but the first is told from the whole text before it.
    Raises UserError if there is nothing to score, a token stands for what the tokenizer cannot write, or the scores
    are not numbers.
    """
    window, stride = window_and_stride(model.config.context, window, stride, carries=model.config.CARRIES)
    batch = _batch(window, batch)
    unknown: list[str] = []
    tokens = (_noted(part, unknown, refuse_unknown) for part in token_stream(documents, tokenizer))
    teller = teller_of(model, tokenizer, learnt)
    if teller is not None:
        parts = told(teller, tokens, tokenizer.special_ids, window, stride, batch, every)
    elif every != 1:
        raise UserError(f"every={every}: a {model.config.MODEL_TYPE} scores all tokens at once: leave it out")
    elif isinstance(model, EncoderDecoder):
        parts = continued(model, tokenizer, windows(tokens, window, stride), batch)
    else:
        reader = InOrder(model) if isinstance(model, TwoStream) else left_to_right(model, "tell a token's probability")
        parts = _exactly(reader, tokens, window, stride, batch)
    score = _summed(model, parts, unknown, pseudo=teller is not None)
    refuse_not_finite("the loss is", score.loss)
    return score


def teller_of(model: Model, tokenizer: Tokenizer, learnt: str | None = None) -> Teller | None:
    """How a model tells what is hidden from it, having `learnt` so; None for one that is scored from left to right."""
    if isinstance(model, EncoderDecoder):
        return filler(model, tokenizer, learnt)
    if isinstance(model, Encoder) and not isinstance(model, TwoStream):
        return MaskedWord(model, tokenizer)
    return None


class Evaluator:
    """The same measurement many times: the documents are encoded once, and kept as ids.

    With `refuse_unknown` false, text that the tokenizer cannot write costs the bits per byte only.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        documents: Iterable[Document],
        *,
        window: int,
        stride: int | None = None,
        batch: int | None = None,
        refuse_unknown: bool = True,
    ) -> None:
        self.window, self.stride = window_and_stride(window, window, stride)
        self.batch = _batch(window, batch)
        parts = list(token_stream(documents, tokenizer))
        self.unknown = next((part.unknown for part in parts if part.unknown is not None), None)
        self.tokens = Tokens(
            np.concatenate([np.empty(0, np.int32), *(part.ids for part in parts)]),
            np.concatenate([np.empty(0, np.int32), *(part.sizes for part in parts)]),
            self.unknown,
        )
        _noted(self.tokens, [], refuse_unknown)
        if len(self.tokens.ids) < 2:
            raise UserError(_NOTHING)

    def __call__(self, model: LeftToRight) -> Score:
        """Scores the model as it is now, in the type of its weights; it is left in the mode it was in."""
        parts = _exactly(model, [self.tokens], self.window, self.stride, self.batch)
        return _summed(model, parts, [] if self.unknown is None else [self.unknown])


def window_and_stride(
    context: int, window: int | None, stride: int | None, *, carries: bool = False
) -> tuple[int, int]:
    """The two, with their defaults for a model's context, or one that `carries` its state from window to window.

    UserError if they do not fit.
    """
    window = (_LONGEST if carries else min(context, _LONGEST)) if window is None else window
    stride = (window if carries else max(1, window // 2)) if stride is None else stride
    if carries and stride != window:
        raise UserError(f"stride={stride}: this model carries its state from window to window: leave the stride out")
    if window < 2 or (window > context and not carries):
        most = "" if carries else f", and at most the model's context of {context}"
        raise UserError(f"window={window}: a window has at least 2 tokens{most}")
    if not 1 <= stride <= window:
        raise UserError(f"stride={stride}: must lie between 1 and the window of {window}, or tokens would be left out")
    return window, stride


def _batch(window: int, batch: int | None) -> int:
    if batch is not None and batch < 1:
        raise UserError(f"batch={batch}: must be at least 1")
    return max(1, _TOKENS // window) if batch is None else batch


_NOTHING = "nothing to score: the data holds fewer than two tokens, and the first has nothing before it"


def _noted(tokens: Tokens, unknown: list[str], refuse: bool) -> Tokens:
    """The same tokens; what in them the tokenizer cannot write is added to `unknown`, or refused."""
    if tokens.unknown is None:
        return tokens
    if refuse:
        raise UserError(
            f"{tokens.unknown} is not in the tokenizer's vocabulary, so bits_per_byte would be wrong: "
            "evaluate a model whose tokenizer covers every byte (kind bpe), or other data"
        )
    unknown.append(tokens.unknown)
    return tokens


def _exactly(
    model: LeftToRight | InOrder, tokens: Iterable[Tokens], window: int, stride: int, batch: int
) -> Iterator[Part]:
    """What a model from left to right gives each token that a window scores."""
    cache: Cache | None = None
    groups = _batches(windows(tokens, window, stride), batch)
    if isinstance(model, LeftToRight) and model.config.CARRIES:
        # each begins with the last token of the one before, which has not been read yet
        cache, size = model.new_cache(), window * batch
        groups = ([one] for one in windows(tokens, size + 1, size))
    for group in groups:
        scored = sum(len(one.ids) - one.first for one in group)
        yield Part(_nats(model, group, cache), scored, sum(one.bytes for one in group))


def _summed(model: Model, parts: Iterator[Part], unknown: list[str], *, pseudo: bool = False) -> Score:
    """What the parts come to; `unknown` may fill while they are made."""
    start = time.perf_counter()
    nats, tokens, size = 0.0, 0, 0
    with inference(model, quick=True):
        for part in parts:
            nats, tokens, size = nats + part.nats, tokens + part.tokens, size + part.bytes
    if not tokens:
        raise UserError(_NOTHING)
    loss = nats / tokens
    return Score(
        loss=loss,
        perplexity=math.exp(min(loss, 700.0)),
        bits_per_byte=nats / math.log(2) / size if size and not unknown else None,
        tokens=tokens,
        bytes=size,
        seconds=time.perf_counter() - start,
        pseudo=pseudo,
    )


def _batches(windows: Iterator[Window], batch: int) -> Iterator[list[Window]]:
    """Up to `batch` windows of one length: only the last can be shorter, so nothing is ever padded."""
    for _, equal in itertools.groupby(windows, key=lambda window: len(window.ids)):
        while group := list(itertools.islice(equal, batch)):
            yield group


def _nats(model: LeftToRight | InOrder, group: list[Window], cache: Cache | None) -> float:
    """Summed -log p of the scored tokens; the softmax in fp32, the sum in fp64, logits never held all at once."""
    device = next(model.parameters()).device
    ids_BT = torch.from_numpy(np.stack([window.ids for window in group])).long().to(device)
    h_BTD = model(ids_BT if cache is None else ids_BT[:, :-1], cache=cache)
    h_ND = torch.cat([h_BTD[row, window.first - 1 : len(window.ids) - 1] for row, window in enumerate(group)])
    targets_N = torch.cat([ids_BT[row, window.first :] for row, window in enumerate(group)])
    rows = max(1, LOGITS // model.config.vocabulary)
    total = torch.zeros((), dtype=torch.float64, device=device)
    for h_nD, targets_n in zip(h_ND.split(rows), targets_N.split(rows), strict=True):
        total += model.nats(h_nD, targets_n).sum(dtype=torch.float64)
    return float(total)
