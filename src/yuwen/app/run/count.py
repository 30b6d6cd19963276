"""A recipe of a counting model → its run: one pass over the text, where the others take steps.

The run folder is the same: the recipe, one line of metrics, a sample, one checkpoint that is `last` and `best`. What is
counted on the way lies in `.counting` beside them. A count that was killed begins again; one that ended is finished.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yuwen.app.run.feed import TextFeed, identity
from yuwen.app.run.recipe import Recipe, write_recipe
from yuwen.app.run.speak import refuse_unreadable
from yuwen.data import Corpus
from yuwen.errors import UserError
from yuwen.evaluation import Evaluator
from yuwen.generation import generate
from yuwen.interop import save_folder
from yuwen.models.ngram import NGram, NGramConfig
from yuwen.tokens import Tokenizer
from yuwen.training import Checkpoints, Saved, counting
from yuwen.training.logging import MetricsLog

_IN_MEMORY = 5 << 22  # tokens times orders: all their tables take less than half a GiB
_WINDOW, _BATCH = 2048, 32  # tokens looked up at a time: their product
# What only a loop of steps obeys. How often something is written down is not here: after the one step, all is.
_STEPS_ONLY = ("minutes", "flops", "batch_tokens", "micro_tokens", "patience", "precision", "compile", "seed")
_STEPS_ONLY_DATA = ("length", "order", "words")
_STEPS_ONLY_SECTIONS = ("objective", "optimizer", "schedule")


@dataclass
class Counted:
    """What a count came to; its checkpoint's `training/state.json` holds the same."""

    tokens: int
    seconds: float
    parameters: int  # probabilities and back-off weights
    orders: list[dict[str, Any]]  # of each: grams, discounts, and whether those were estimated
    valid_loss: float | None = None
    bits_per_byte: float | None = None
    step: int = 1
    data: str | None = None  # identity of what was counted and measured; older counts do not know it


def fit(
    recipe: Recipe, run: Path, tokenizer: Tokenizer, feed: TextFeed, say: Callable[[str], None] = lambda line: None
) -> Counted:
    """Counts the prepared text into the run folder, and measures the model on what is held out.

    UserError for a setting that counting would ignore, a prompt that the model could not read, or a text shorter than
    one n-gram; OSError when the disk refuses.
    """
    config, shards = settings(recipe, tokenizer.size), feed.shards
    prompts = [(prompt, ids) for prompt in recipe.sample.prompts if (ids := tokenizer.encode(prompt))]
    for prompt, ids in prompts:
        refuse_unreadable(prompt, ids, config)
    measure = _measure(tokenizer, feed.held_out)
    scratch = run / ".counting"
    shutil.rmtree(scratch, ignore_errors=True)  # of a count that was killed
    write_recipe(recipe, run / "recipe.yaml")
    try:
        in_memory = len(shards) * config.order <= _IN_MEMORY
        if not in_memory:
            scratch.mkdir()
        began = time.perf_counter()
        tokens = counting.Column.stored(shards.folder / "tokens.bin", shards.tokens.dtype)
        model, orders = counting.fit(tokens, config, counting.Workspace(None if in_memory else scratch), say)
        seconds = time.perf_counter() - began
        for order in orders:
            say(_described(order))
        counted = Counted(
            len(shards),
            seconds,
            sum(numbers.numel() for numbers in model.parameters()),
            [asdict(order) for order in orders],
            *_measured(model, measure),
            data=identity(feed),
        )
        _log(counted, run, tensorboard=recipe.train.tensorboard)
        Checkpoints(run, warn=say).save(
            1, lambda folder: _save(folder, model, tokenizer), asdict(counted), {}, best=True
        )
        _sample(recipe, run, model, tokenizer, prompts)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return counted


def finished(saved: Saved, feed: TextFeed) -> Counted:
    """What an earlier count came to, which there is nothing to add to. UserError if it counted another text."""
    counted = Counted(**saved.state)
    if counted.data not in (None, identity(feed)):
        raise UserError(f"{saved.folder}: the text has changed since it was counted: choose another --out")
    return counted


def obeyed(overrides: Sequence[str]) -> list[str]:
    """Those of some `section.key=value` that a count has a use for."""
    ignored = {f"train.{key}" for key in ("steps", *_STEPS_ONLY)} | {f"data.{key}" for key in _STEPS_ONLY_DATA}
    keys = {override: override.partition("=")[0] for override in overrides}
    return [o for o, key in keys.items() if key not in ignored and key.split(".")[0] not in _STEPS_ONLY_SECTIONS]


def settings(recipe: Recipe, vocabulary: int) -> NGramConfig:
    """The model's settings for a tokenizer of that size. UserError names the first that counting would ignore."""
    if recipe.model.get("from"):
        raise UserError("model.from: a count begins from nothing but the text: leave it out")
    if recipe.model.get("sizes"):
        raise UserError("model.sizes: counting finds them: leave them out")
    for name, given, usual in _ignored(recipe):
        if given != usual:
            raise UserError(f"{name}={given!r}: a count takes one pass and would ignore it: leave it out")
    values = {"vocabulary": vocabulary, **recipe.model}
    values.pop("family", None)
    if isinstance(values["vocabulary"], int) and values["vocabulary"] < vocabulary:
        raise UserError(
            f"model.vocabulary={values['vocabulary']} is smaller than the tokenizer's {vocabulary}: leave it out"
        )
    return NGramConfig.parse("model", values)


def _ignored(recipe: Recipe) -> list[tuple[str, Any, Any]]:
    """(name, value, default) of every setting that has no meaning without steps."""
    assert recipe.objective is not None
    found: list[tuple[str, Any, Any]] = [("objective.name", recipe.objective.name, "causal")]
    for section in _STEPS_ONLY_SECTIONS:
        config: Any = getattr(recipe, section)
        given, usual = config.model_dump(), type(config)().model_dump()
        found += [(f"{section}.{key}", given[key], usual[key]) for key in given]
    train, usual = recipe.train, type(recipe.train)()
    if train.steps != Recipe.model_fields["train"].default.steps:  # what a recipe without a section of the name has
        found.append(("train.steps", train.steps, usual.steps))
    found += [(f"train.{key}", getattr(train, key), getattr(usual, key)) for key in _STEPS_ONLY]
    data = type(recipe.data).model_fields
    return [*found, *((f"data.{key}", getattr(recipe.data, key), data[key].default) for key in _STEPS_ONLY_DATA)]


def _described(order: counting.Order) -> str:
    values = order.discounts if order.estimated else order.discounts[:1]
    how = "estimated" if order.estimated else "given"
    return f"order {order.order}: {order.grams:,} grams, discounts {how}: {', '.join(f'{d:.3f}' for d in values)}"


def _measure(tokenizer: Tokenizer, held_out: Corpus | None) -> Evaluator | None:
    """What reads the held-out text through; a text with nothing to score is told before there is something to lose."""
    if held_out is None:
        return None
    return Evaluator(tokenizer, held_out.documents(), window=_WINDOW, batch=_BATCH, refuse_unknown=False)


def _measured(model: NGram, measure: Evaluator | None) -> tuple[float | None, float | None]:
    """Loss and bits per byte of the held-out text."""
    if measure is None:
        return None, None
    score = measure(model)
    return score.loss, score.bits_per_byte


def _log(counted: Counted, run: Path, *, tensorboard: bool) -> None:
    measured = {"valid_loss": counted.valid_loss, "bits_per_byte": counted.bits_per_byte}
    log = MetricsLog(run, tensorboard=tensorboard)
    log.write(
        {
            "step": counted.step,
            "tokens": counted.tokens,
            "seconds": round(counted.seconds, 3),
            "tokens_per_second": round(counted.tokens / counted.seconds, 1),
            **{name: value for name, value in measured.items() if value is not None},
        }
    )
    log.close()


def _sample(
    recipe: Recipe, run: Path, model: NGram, tokenizer: Tokenizer, prompts: Sequence[tuple[str, list[int]]]
) -> None:
    with (run / "samples.jsonl").open("w", encoding="utf-8") as file:
        for prompt, ids in prompts:
            text = generate(model, [ids], recipe.sample.sampling(), tokenizer=tokenizer)[0].text
            file.write(json.dumps({"step": 1, "prompt": prompt, "text": text}, ensure_ascii=False) + "\n")


def _save(folder: Path, model: NGram, tokenizer: Tokenizer) -> None:
    save_folder(folder, model, tokenizer, generation={"yuwen": {"chat": False}})
