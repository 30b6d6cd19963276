"""The model that a run begins with: fresh, another's, or its own as a checkpoint holds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from yuwen.app.run.memory import refuse_too_large
from yuwen.app.run.own import learns_words
from yuwen.app.run.recipe import Recipe, early_config
from yuwen.errors import UserError
from yuwen.interop import load_classifier, load_folder
from yuwen.interop.fitting import check_fit
from yuwen.models import Classifier, ClassifierConfig, Model, build, build_classifier, on_body
from yuwen.models.classifier import body_config
from yuwen.models.config import ModelConfig
from yuwen.tokens import Tokenizer


def fresh(recipe: Recipe, tokenizer: Tokenizer, labels: Sequence[str] | None, world: int) -> Model | Classifier:
    """A model with weights drawn from the recipe's seed; with `labels` one that tells these classes.

    UserError, before anything is allocated, for one that this machine's memory cannot train.
    """
    pad = tokenizer.end_id if tokenizer.pad_id is None else tokenizer.pad_id
    config = recipe.model_config_for(tokenizer.size, pad or 0, tokenizer.pad_id)  # a target begins with it, as T5's
    of_its_own = tokenizer.pad_id is not None and tokenizer.pad_id != tokenizer.end_id
    if "padding" in type(config).model_fields and "padding" not in recipe.model and not of_its_own:
        raise UserError(
            f"model.family={recipe.family} counts positions past the padding, and the tokenizer has no padding token of"
            " its own: take one trained with tokenizer.specials='[[PAD], [CLS], [SEP], [MASK]]'"
        )
    _refuse_too_large(recipe, config, world)
    generator = torch.Generator().manual_seed(recipe.train.seed)
    if labels is None:
        return build(config, generator)
    settings = {
        "body": body_config(config, words=learns_words(recipe.objective)),
        "labels": tuple(labels),
        "pad": pad,
    }
    return build_classifier(ClassifierConfig.parse("model", settings), generator)


def refuse_hopeless(recipe: Recipe, world: int) -> None:
    """UserError, before any text is read, for a fresh model that this machine cannot train whatever its vocabulary."""
    _refuse_too_large(recipe, early_config(recipe), world)


def _refuse_too_large(recipe: Recipe, config: ModelConfig, world: int) -> None:
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build(config).parameters())
    refuse_too_large(recipe, config, parameters, world)


def begun_from(
    recipe: Recipe,
    folder: Path,
    tokenizer: Tokenizer,
    labels: Sequence[str] | None,
    world: int,
    say: Callable[[str], None],
) -> Model | Classifier:
    """The model that `model.from` names, with a fresh head where it is to tell classes.

    UserError for another shape, and for a batch that this machine's memory cannot hold.
    """
    model = load_folder(folder)[0]
    check_fit(tokenizer, model, f"model.from={recipe.model['from']}")
    refuse_too_large(recipe, model.config, sum(p.numel() for p in model.parameters()), world)
    for key, value in recipe.model.items():
        if key in ("from", "family") or _is_free(model.config, key):
            continue
        if not hasattr(model.config, key) or getattr(model.config, key) != value:
            raise UserError(f"model.{key}={value!r}: the model that model.from names has another; leave the key out")
    changes = _free(model.config, recipe.model)
    if labels is None:
        return _rebuilt(model, changes)
    generator = torch.Generator().manual_seed(recipe.train.seed)
    pad = tokenizer.end_id if tokenizer.pad_id is None else tokenizer.pad_id
    words = learns_words(recipe.objective)
    classifier, new = on_body(model, labels, generator, pad=pad, words=words, changes=changes)
    say(f"fresh: {', '.join(new)}; all else is what {folder} has learnt")
    return classifier


def resumed(recipe: Recipe, folder: Path) -> Model | Classifier:
    """The model of a run's own checkpoint."""
    found = load_classifier(folder)
    if found is None:
        model = load_folder(folder)[0]
        return _rebuilt(model, _free(model.config, recipe.model))
    classifier = found[0]
    body = classifier.config.body
    settled = type(body).parse("model", {**body.model_dump(), **_free(body, recipe.model)})
    own = build_classifier(classifier.config.model_copy(update={"body": settled}))
    own.load_state_dict(classifier.state_dict())
    return own


def _rebuilt(model: Model, changes: Mapping[str, Any]) -> Model:
    """A loaded model with weights of its own, which may be written to, and with what these leave free: dropout."""
    own = build(type(model.config).parse("model", {**model.config.model_dump(), **changes}))
    own.load_state_dict(model.state_dict())
    return own


def _free(config: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if _is_free(config, key)}


def _is_free(config: Any, key: str) -> bool:
    """May it be other than what the weights were stored with? Dropout and the like may, and how a text begins; a switch
    that is in no config.json (a head, a bias) says which weights there are."""
    fields, published = type(config).model_fields, config.PUBLISHED.get(key)
    return key in fields and (published is None or published in config.MOVED) and fields[key].annotation is not bool
