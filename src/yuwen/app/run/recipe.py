"""A recipe: everything a run depends on, typed, with its defaults, in one YAML file that a person runs and edits."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from yuwen.app.run.own import fit, model_settings, objective_of, own_objective
from yuwen.config import Config, nearest
from yuwen.data.split import hash_share
from yuwen.data.words import Words
from yuwen.disk import replace_text
from yuwen.errors import UserError
from yuwen.generation import SamplingConfig
from yuwen.models import FAMILIES, parse_config
from yuwen.models.config import ModelConfig
from yuwen.objectives import ObjectiveConfig, special_tokens
from yuwen.text import FieldsConfig, TextConfig
from yuwen.tokens.train import TokenizerConfig
from yuwen.training import OptimizerConfig, ScheduleConfig, TrainConfig


class DataConfig(Config):
    """What is learnt from and what is only measured.

    `train` is one DATA or several; `valid` is a DATA, or the fraction that the last part of `train` makes up (0: no
    validation), or a share by hash, such as hash:0.1. `length` is the window in tokens, or the most of a row. `text`
    says how documents are cleaned; the validation side never is. `order` is that of windows: shuffled, or streams that
    read on, for models that carry a state. `words` says who marks where words begin, for whole-word masking. `fields`
    names the columns of records, for objectives that learn from rows.
    """

    train: str | tuple[str, ...]
    valid: str | float = 0.05
    length: int = Field(default=256, gt=0)
    field: str | None = None
    encoding: str | None = None
    deduplicate: bool = True
    order: Literal["shuffled", "stream"] = "shuffled"
    words: Words = "pieces"
    fields: FieldsConfig | None = None
    text: TextConfig = TextConfig()

    @field_validator("valid", mode="before")
    @classmethod
    def _fraction(cls, valid: Any) -> Any:
        """A fraction is one however it is written: 1e-2 is no number in YAML 1.1."""
        if valid is None:
            raise ValueError("0 holds nothing out")
        if isinstance(valid, str):
            with contextlib.suppress(ValueError):
                return float(valid)
        return valid


class TokenizerSection(TokenizerConfig):
    """Trained on the training text, or taken with `from`: a folder or MODEL whose tokenizer is used as it is."""

    from_: str | None = Field(default=None, alias="from")


class SampleConfig(Config):
    """What the model is asked to continue while it learns; a model that reads both sides fills the blank in it."""

    prompts: tuple[str, ...] = ()
    tokens: int = Field(default=60, gt=0)
    temperature: float = Field(default=0.8, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**63)

    def sampling(self) -> SamplingConfig:
        """The same as the sampler's own settings."""
        if self.temperature == 0:
            return SamplingConfig(max_tokens=self.tokens, temperature=0)
        return SamplingConfig(max_tokens=self.tokens, temperature=self.temperature, top_p=self.top_p, seed=self.seed)


class Recipe(Config):
    """All sections. `model` stays a mapping until the tokenizer has said how large the vocabulary is.

    An objective that is left out is the family's own, once the family is known: with `model.from` it is not before
    that model was found, and until then None.
    """

    data: DataConfig
    tokenizer: TokenizerSection = TokenizerSection()
    model: dict[str, Any] = {}
    objective: ObjectiveConfig | None = None
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig(steps=1000)
    sample: SampleConfig = SampleConfig()

    @field_validator("model")
    @classmethod
    def _from_a_name(cls, model: dict[str, Any]) -> dict[str, Any]:
        """What no family's settings are asked about: the MODEL to begin from, and numbers that JSON cannot write."""
        start = model.get("from")
        if start is not None and not isinstance(start, str):
            raise ValueError(f"from={start!r} is no MODEL: name a run, a folder, hf:org/name or pypi:package")
        for key, value in model.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{key}={value!r} is no finite number")
        return model

    def model_config_for(self, vocabulary: int, start: int = 0, padding: int | None = None) -> ModelConfig:
        """The model's settings for a tokenizer of that size: the vocabulary is rounded up to a multiple of 64.

        What else the recipe leaves out follows from the data and the objective: the context, the heads, and from
        the tokenizer `start`, the token that a target begins with, and `padding`, which counts no position.
        """
        values = {k: v for k, v in self.model.items() if k not in ("family", "from")}
        asked = values.setdefault("vocabulary", -(-vocabulary // 64) * 64)
        if isinstance(asked, int) and asked < vocabulary:
            raise UserError(f"model.vocabulary={asked} is smaller than the tokenizer's {vocabulary}: leave it out")
        objective = None if self.objective is None else self.objective.name
        return parse_config(
            self.family, model_settings(self.family, values, objective, self.data.length, start, padding)
        )

    def settled(self, config: ModelConfig) -> Recipe:
        """The recipe with what a model of these settings brings: its own objective where none is named, and the special
        tokens which that asks of a tokenizer. UserError if the objective cannot train such a model on such data."""
        recipe = self
        if self.objective is None:
            values = {**self.plain(), "objective": {"name": own_objective(config, self.data.fields)}}
            recipe = type(self).parse("", values)
        assert recipe.objective is not None
        fit(
            recipe.objective,
            config,
            length=self.data.length,
            fields=self.data.fields,
            order=self.data.order,
            parts=bool(self.train.micro_tokens),
            samples=(self.train.micro_tokens or self.train.batch_tokens) // self.data.length,
            dropout=self.model.get("dropout", getattr(config, "dropout", 0.0)),
        )
        if self.model.get("memory") and self.data.order != "stream":
            raise UserError(
                f"model.memory={self.model['memory']!r}: shuffled windows follow nothing that could be remembered:"
                " leave it out, or set data.order=stream"
            )
        if self.data.words != "pieces" and not getattr(recipe.objective, "whole_words", False):
            raise UserError(f"data.words={self.data.words} is for objectives that hide whole words: leave it out")
        if self.tokenizer.from_ or self.model.get("from"):
            self._takes_a_tokenizer()
            return recipe
        specials = special_tokens(recipe.objective.name, config.reads)
        try:
            return recipe.model_copy(update={"tokenizer": self.tokenizer.with_specials(specials)})
        except UserError as error:
            needs = f"objective.name={recipe.objective.name} needs {len(specials)} special tokens"
            raise UserError(f"tokenizer.{error} ({needs})") from None

    def _takes_a_tokenizer(self) -> None:
        """UserError for what would only shape a tokenizer that is trained here."""
        start = "tokenizer.from" if self.tokenizer.from_ else "model.from"
        taken = TokenizerSection.parse("tokenizer", {"from": self.tokenizer.from_})
        for key in TokenizerConfig.model_fields:
            if getattr(self.tokenizer, key) != getattr(taken, key):
                raise UserError(
                    f"tokenizer.{key}={getattr(self.tokenizer, key)!r}: {start} brings a tokenizer as it is: "
                    "leave this out (on the command line, tokenizer={} empties the section)"
                )

    @property
    def family(self) -> str:
        """Name of the model's family."""
        return str(self.model.get("family", "qwen3"))

    def plain(self) -> dict[str, Any]:
        """Everything as plain values, defaults included, as `recipe.yaml` shows it."""
        return self.model_dump(mode="json", by_alias=True)


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a file, with `section.key=value` overrides. UserError names file, line or key and the mend."""
    try:
        values = _yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}: a recipe is a text file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UserError(f"{where}: not YAML: {getattr(error, 'problem', None) or 'cannot be read'}") from None
    except ValueError as error:  # a date that there is not
        raise UserError(f"{path}: a value cannot be read as YAML ({error}): quote it") from None
    except RecursionError:
        raise UserError(f"{path}: is nested too deeply: a recipe has sections and keys") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a mapping of sections such as data: and train:")
    refuse_repeated(overrides)
    return parse_recipe(merge(values, overrides), str(path))


def parse_recipe(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from plain values; every error says which key."""
    try:
        recipe = Recipe.parse("", _named(values))
        if recipe.family not in FAMILIES:
            raise UserError(f"unknown model.family {recipe.family!r}: {nearest(recipe.family, list(FAMILIES))}")
        # an impossible shape is refused now, not after the tokenizer is trained
        config = None if recipe.model.get("from") else early_config(recipe)
        _possible(recipe)
        if config is not None:
            recipe = recipe.settled(config)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return recipe


def _named(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values with the name of the objective whose other settings are given: what the columns say, or the family's
    own. UserError where neither is known."""
    given, model = values.get("objective"), values.get("model") or {}
    if not isinstance(given, Mapping) or "name" in given or not isinstance(model, Mapping):
        return values
    bare = Recipe.parse("", {**values, "objective": None})
    if bare.data.fields is not None:
        name = objective_of(bare.data.fields)
    elif model.get("from"):
        if not given:
            return {**values, "objective": None}
        raise UserError("objective: say objective.name, too: what model.from is, and so learns by, is not known yet")
    elif bare.family not in FAMILIES:
        return values
    else:
        name = own_objective(early_config(bare), None)
    return {**values, "objective": {"name": name, **given}}


def early_config(recipe: Recipe) -> ModelConfig:
    """The model's settings before the tokenizer has said how large the vocabulary is: the least that is asked for."""
    known = [] if recipe.model.get("vocabulary") else [recipe.model.get(key) for key in ("start", "bos", "padding")]
    named = [id for id in known if isinstance(id, int)]
    return recipe.model_config_for(min(max([0, *named]), 1 << 20) + 1)


def merge(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The values with `section.key=value` laid over them; a value is read as YAML."""
    merged = _copied(values)
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            raise UserError(f"{override!r} is not an override: write section.key=value, such as train.steps=100")
        *sections, key = path.split(".")
        place = merged
        for section in sections:
            inner = place.get(section)
            place[section] = inner = {} if inner is None else inner
            if not isinstance(inner, dict):
                raise UserError(f"{path}: {section} holds a value, not a section")
            place = inner
        try:
            place[key] = _yaml(text)
        except (yaml.YAMLError, ValueError):  # ValueError: a date that there is not
            raise UserError(f"{path}={text!r}: the value cannot be read as YAML: quote it") from None
    return merged


def refuse_repeated(overrides: Sequence[str]) -> None:
    """UserError for a key that is given twice: which of the two is meant?"""
    paths = [override.partition("=")[0] for override in overrides]
    for path in paths:
        if paths.count(path) > 1:
            raise UserError(f"{path} is given twice: leave one out")


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Writes the resolved recipe, whole or not at all."""
    replace_text(path, yaml.safe_dump(recipe.plain(), allow_unicode=True, sort_keys=False))


def _possible(recipe: Recipe) -> None:
    train, length = recipe.train, recipe.data.length
    if not (train.steps or train.minutes or train.flops or FAMILIES[recipe.family].config.COUNTS):
        raise UserError("train: give steps or minutes, or a budget of flops")
    if recipe.data.fields is not None and recipe.data.field is not None:
        raise UserError("data.field and data.fields both name columns: leave data.field out")
    for name, tokens in (("batch_tokens", train.batch_tokens), ("micro_tokens", train.micro_tokens)):
        if tokens % length:
            raise UserError(
                f"train.{name}={tokens} must be a multiple of data.length={length}: windows are never padded"
            )
    if train.micro_tokens and train.batch_tokens % train.micro_tokens:
        raise UserError(f"train.micro_tokens={train.micro_tokens} must divide train.batch_tokens={train.batch_tokens}")
    if train.patience and not (recipe.data.valid and train.evaluate_every):
        raise UserError("train.patience waits for evaluations: set data.valid and train.evaluate_every")
    context = recipe.model.get("context")
    if isinstance(context, int) and context < length:
        raise UserError(f"model.context={context} is shorter than data.length={length}")
    if isinstance(recipe.data.valid, str) and recipe.data.valid.startswith("hash:"):
        hash_share(recipe.data.valid)
    if not isinstance(recipe.data.valid, str) and not 0 <= recipe.data.valid < 1:
        raise UserError(
            f"data.valid={recipe.data.valid}: a fraction lies between 0 and 1, such as 0.05; or name a DATA"
        )


class _Once(yaml.SafeLoader):
    """Plain YAML in which no key comes twice: of two sections of one name the first would be gone without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, key in enumerate(keys):
            if key.value in [other.value for other in keys[:place]]:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
        return super().construct_mapping(node, deep)


def _yaml(text: str) -> Any:
    return yaml.load(text, _Once)


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in values.items()}
