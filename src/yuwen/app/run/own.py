"""What a family brings where a recipe is silent: its own objective, and the shape that this objective asks of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yuwen.errors import UserError
from yuwen.models import FAMILIES, family
from yuwen.models.config import ModelConfig, Reads
from yuwen.models.encoder import EncoderConfig
from yuwen.models.encoder_decoder import EncoderDecoderConfig
from yuwen.objectives import OBJECTIVES, class_of, trains
from yuwen.text import FieldsConfig

# What a family was published with; for all others the way it reads decides.
_PUBLISHED = {"bert": "next_sentence", "albert": "sentence_order", "t5": "span", "bart": "denoising"}
_BY_READING: dict[Reads, str] = {
    "forwards": "causal",
    "both": "masked",
    "permuted": "permuted",
    "pairs": "seq2seq",
}
_COLUMNS = {"seq2seq": ("source", "target"), "contrastive": ("text",), "classify": ("text", "label")}
# What may ask for targets of data.length tokens: all others' are shorter, by what is read of the text or its frame.
_LONGEST_TARGETS = ("seq2seq", "span")
# The heads of an encoder that each objective trains; no other stays in a fresh model, to be taken for a trained one.
_HEADS: dict[str, frozenset[str]] = {
    "masked": frozenset({"masked"}),
    "next_sentence": frozenset({"masked", "pooler", "next_sentence"}),
    "sentence_order": frozenset({"masked", "pooler", "sentence_order"}),
    "permuted": frozenset({"masked"}),
    "classify": frozenset({"pooler"}),
}


def own_objective(config: ModelConfig, fields: FieldsConfig | None) -> str:
    """Name of the objective for a model of these settings on such data, where the recipe names none."""
    if fields is not None:
        return objective_of(fields)
    name = _PUBLISHED.get(family(config.MODEL_TYPE).name, "")
    # a flag of the objective's name says whether the model has the head for it
    return name if name and getattr(config, name, True) else _BY_READING[config.reads]


def objective_of(fields: FieldsConfig) -> str:
    """Name of the objective that rows of such columns are for, where the recipe names none."""
    if "source" in fields.texts:
        return "seq2seq"
    return "classify" if fields.label is not None else "contrastive"


def readings(objective: Any, fields: FieldsConfig | None) -> int:
    """How many texts, of up to `data.length` tokens each, a training step reads of one sample."""
    if objective.name == "contrastive":  # a text is read twice, a row in all its columns
        return 2 if fields is None else max(2, len(fields.texts))
    return readings_more(objective) + learns_words(objective)


def readings_more(objective: Any) -> int:
    """How often training reads what is read once where it is measured."""
    return 2 if getattr(objective, "consistency", 0.0) else 1


def learns_words(objective: Any) -> bool:
    """Does a classifier also learn to tell hidden words?"""
    return bool(getattr(objective, "language", 0.0))


def fit(
    objective: Any,
    config: ModelConfig,
    *,
    length: int,
    fields: FieldsConfig | None,
    order: str,
    parts: bool,
    samples: int,
    dropout: float,
) -> None:
    """UserError if this objective cannot train a model of these settings, or not on such data.

    `samples` are read at a time, the whole step or, if it is computed in `parts`, one of these; `dropout` is the rate
    that the model will learn with, which published settings do not hold.
    """
    name = objective.name
    where = f"model.family={family(config.MODEL_TYPE).name}"
    kind = class_of(name, config.reads, length=length, model=where)
    if name == "prefix" and config.CARRIES:
        raise UserError(
            f"objective.name=prefix lets a prefix see itself from both sides, and {where} reads one way only"
        )
    if isinstance(config, EncoderConfig):
        lacking = sorted(_HEADS.get(name, frozenset()) - config.answers - {"pooler"})
        if lacking:
            raise UserError(f"objective.name={name} trains a {lacking[0]} head, and this model ({where}) has none")
        segments = getattr(config, "segments", 0)
        if name in ("next_sentence", "sentence_order") and segments < 2:
            raise UserError(f"objective.name={name} reads two segments, and model.segments={segments}: set 2")
    if learns_words(objective) and config.reads != "both":
        raise UserError(
            f"objective.language asks for hidden words, which {where} cannot tell: leave it out, or choose an encoder"
        )
    if kind.rows and fields is None:
        others = ", ".join(o for o in OBJECTIVES if (k := trains(o, config.reads)) is not None and not k.rows)
        columns = " ".join(f"data.fields.{role}=COLUMN" for role in _COLUMNS[name])
        raise UserError(f"objective.name={name} learns from rows: give {columns}; from running text: {others}")
    if fields is not None:
        refuse_unread(name, fields, rows=kind.rows)
    room = config.context
    if isinstance(config, EncoderDecoderConfig) and name in _LONGEST_TARGETS:
        room -= len(config.opening) - 1
    if room < length:
        raise UserError(f"data.length={length} is more than the {room} tokens that this model reads at once")
    if kind.together and parts:
        raise UserError(
            f"objective.name={name} compares the rows of a batch with each other, so a batch cannot be computed in "
            "parts: leave train.micro_tokens out"
        )
    if samples < kind.fewest:
        which = "micro_tokens" if parts else "batch_tokens"
        raise UserError(
            f"objective.name={name} reads one text beside another, and train.{which} hold {samples} of data.length:"
            f" set train.{which} to {kind.fewest * length} at least"
        )
    if not dropout:
        _refuse_alike(objective, fields)
    remembers = name == "permuted" and getattr(config, "memory", 0) > 0
    if order == "stream" and not (config.CARRIES and name == "causal") and not remembers:
        raise UserError(f"data.order=stream is for models that carry a state, and {where} with {name} carries none")


def _refuse_alike(objective: Any, fields: FieldsConfig | None) -> None:
    """UserError for an objective that compares two readings of a text which, without dropout, are the same."""
    if getattr(objective, "consistency", 0.0):
        what = "objective.consistency compares two readings of a text that differ by"
    elif objective.name == "contrastive" and fields is not None and set(fields.texts) == {"text"}:
        what = "objective.name=contrastive on texts alone learns from"
    else:
        return
    raise UserError(f"{what} dropout, and this model has none: set model.dropout=0.1")


def refuse_unread(name: str, fields: FieldsConfig, *, rows: bool) -> None:
    """UserError for columns that this objective does not read, and for a label that it lacks."""
    if not rows:
        raise UserError(f"objective.name={name} learns from running text: leave data.fields out")
    for role in ("label", "score"):
        if getattr(fields, role) is not None and role not in _COLUMNS[name]:
            raise UserError(f"objective.name={name} would not read data.fields.{role}: leave it out")
    if "label" in _COLUMNS[name] and fields.label is None:
        raise UserError(f"objective.name={name} learns labels: give data.fields.label=COLUMN")


def model_settings(
    name: str, values: Mapping[str, Any], objective: str | None, length: int, start: int, padding: int | None
) -> dict[str, Any]:
    """The settings of a fresh model with what a recipe leaves out and data or objective decide."""
    kind = FAMILIES[name].config
    opening = 0 if values.get("bos") is None else 1  # of a target, where the family has such an id
    default = {"context": None if kind.CARRIES else length + opening, "start": start or None, "padding": padding}
    settings = {key: value for key, value in default.items() if key in kind.model_fields and value is not None}
    if issubclass(kind, EncoderConfig) and objective is not None:
        heads = _HEADS.get(objective, frozenset())
        settings |= {head: head in heads for head in kind.HEADS}
    return {**settings, **values}
