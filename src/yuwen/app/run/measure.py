"""A classifier measured on DATA: which columns are meant, the rows they make, and how often it is right."""

from __future__ import annotations

from pathlib import Path

from yuwen.app.loading.load import Loaded
from yuwen.app.run.recipe import read_recipe
from yuwen.data import RAW, Frame, prepare_rows
from yuwen.errors import UserError
from yuwen.evaluation.classification import Classification, evaluate_rows
from yuwen.evaluation.source import corpus_of, is_part
from yuwen.text import FieldsConfig, parse_fields

_LONGEST = 512  # ids of a text for a model that reads without end, or nearly


def measure_classifier(
    loaded: Loaded, data: str, *, fields: str | None = None, encoding: str | None = None
) -> Classification:
    """Accuracy and macro F1 of a loaded model with a head for classes, on labelled rows.

    `fields` are written as `text=COLUMN,label=COLUMN`; without them they are those the run was trained with, else
    `text` and `label`. DATA of its own is measured row by row; a part of it, `DATA[hash:26/256]` or `DATA[90%:]`, as
    training held it out: copies once, contradictions not at all. UserError for rows that do not fit.
    """
    model, tokenizer = loaded.classifier, loaded.tokenizer
    if model is None or tokenizer is None:
        raise UserError(f"{loaded.path}: no head for classes, or no tokenizer; give a model trained to classify")
    chosen, length = _settings(loaded.path, fields)
    corpus = corpus_of(data, field=chosen.first, encoding=encoding)
    part = is_part(data)
    rows = prepare_rows(corpus, chosen, tokenizer, text=RAW, deduplicate=part, labels=model.config.labels)
    return evaluate_rows(model, rows, Frame.of(tokenizer, model.config.reads), min(length, model.config.context))


def _settings(folder: Path, fields: str | None) -> tuple[FieldsConfig, int]:
    """(the columns, how many ids a text may have), as the run that the folder is a checkpoint of was trained."""
    path = folder.parent / "recipe.yaml"
    data = read_recipe(path).data if path.is_file() else None
    if fields is not None:
        chosen = parse_fields(fields)
    elif data is not None and data.fields is not None:
        chosen = data.fields
    else:
        chosen = FieldsConfig(text="text", label="label")
    return chosen, _LONGEST if data is None else data.length
