"""What a model says while it learns: it goes on from a prompt, answers it, or fills the blank in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yuwen.app.loading.load import Loaded
from yuwen.app.run.recipe import SampleConfig
from yuwen.data import Frame
from yuwen.errors import UserError
from yuwen.generation import check_prompt, generate
from yuwen.models import Encoder, EncoderDecoder, LeftToRight
from yuwen.models.inference import inference
from yuwen.objectives import Vocabulary
from yuwen.tasks.fill import MASK, fill, masked_ids
from yuwen.tokens import Tokenizer

Said = list[tuple[str, str]]  # prompt, and what the model made of it


def speaker(
    model: Any, tokenizer: Tokenizer, config: SampleConfig, run: Path, objective: str
) -> Callable[[], Said] | None:
    """What answers the recipe's prompts with the model as it is then; None for a model that writes nothing.

    `objective` says whether an encoder–decoder learns to fill holes. UserError for a prompt that it cannot read: now,
    not when there is something to lose.
    """
    prompts = [prompt for prompt in config.prompts if tokenizer.encode(prompt)]
    if isinstance(model, LeftToRight | EncoderDecoder):
        answers, fills = isinstance(model, EncoderDecoder), objective in ("span", "denoising")
        ids = [_source(prompt, tokenizer, fills) if answers else tokenizer.encode(prompt) for prompt in prompts]
        for prompt, row in zip(prompts, ids, strict=True):
            refuse_unreadable(prompt, row, model.config)
        return lambda: _written(model, tokenizer, config, prompts, ids)
    if isinstance(model, Encoder) and "masked" in model.heads and tokenizer.mask_id is not None:
        loaded, texts = Loaded(str(run), run, model, tokenizer), [_with_blank(prompt) for prompt in prompts]
        for text in texts:
            masked_ids(loaded, text, f"sample.prompts: {text[:20]!r}")
        return lambda: _filled(loaded, texts)
    return None


def refuse_unreadable(prompt: str, ids: Sequence[int], config: Any) -> None:
    """UserError for a prompt that a model of these settings cannot go on from."""
    try:
        check_prompt(ids, config.context, config.vocabulary)
    except UserError as error:
        raise UserError(f"sample.prompts: {prompt[:20]!r}: {error}") from None


def _written(
    model: Any, tokenizer: Tokenizer, config: SampleConfig, prompts: Sequence[str], ids: Sequence[Sequence[int]]
) -> Said:
    if not prompts:
        return []
    results = generate(model, ids, config.sampling(), tokenizer=tokenizer)
    return [(prompt, result.text) for prompt, result in zip(prompts, results, strict=True)]


def _source(prompt: str, tokenizer: Tokenizer, fills: bool) -> list[int]:
    """A source, with a hole at its end for a model that learns to fill holes: T5's first sentinel, BART's mask."""
    frame, ids = Frame.of(tokenizer, "pairs"), tokenizer.encode(prompt, specials=True)
    hole = next(iter(Vocabulary.of(tokenizer).sentinels), tokenizer.mask_id) if fills else None
    return [*frame.before, *ids, *([] if hole is None or hole in ids else [hole]), *frame.after]


def _with_blank(prompt: str) -> str:
    """A prompt without a blank gets one at its end."""
    return prompt if MASK in prompt else prompt + MASK


def _filled(loaded: Loaded, texts: Sequence[str]) -> Said:
    """The likeliest words for the blanks."""
    with inference(loaded.model):
        return [(text, f" → {row['text']}") for text, row in zip(texts, fill(loaded, texts, top=1), strict=True)]
