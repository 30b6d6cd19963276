"""A model measured on rows of DATA: which columns are meant, and what it makes of them.

A classifier by how often it is right, a model of vectors by whether it finds alike what people find alike.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from yuwen.app.loading.load import Loaded
from yuwen.app.loading.pooling import published_pooling
from yuwen.app.run.recipe import Recipe, read_recipe
from yuwen.data import RAW, Frame, prepare_rows
from yuwen.errors import UserError
from yuwen.evaluation.classification import Classification, evaluate_rows
from yuwen.evaluation.similarity import Similarity, pearson, spearman
from yuwen.evaluation.source import corpus_of, is_part
from yuwen.tasks.embed import Embedder
from yuwen.text import FieldsConfig, parse_fields, rows

_LONGEST = 512  # ids of a text for a model that reads without end, or nearly


def measure_classifier(
    loaded: Loaded, data: str, *, fields: str | None = None, encoding: str | None = None
) -> Classification:
    """Accuracy and macro F1 of a loaded model with a head for classes, on labelled rows.

    `fields` are written as `text=COLUMN,label=COLUMN`; without them they are those the run was trained with, else
    `text` and `label`. DATA of its own is measured row by row; a part of it, `DATA[hash:26/256]` or `DATA[90%:]`, as
    training held it out: copies once, contradictions not at all, unless its `data.deduplicate` was off. UserError for
    rows that do not fit.
    """
    model, tokenizer = loaded.classifier, loaded.tokenizer
    if model is None or tokenizer is None:
        raise UserError(f"{loaded.path}: no head for classes, or no tokenizer; give a model trained to classify")
    chosen, length, once = _settings(loaded.path, fields)
    if chosen.label is None or "text" not in chosen.texts:
        raise UserError(f"--fields {fields}: to measure a classifier name a text and a label: text=COLUMN,label=COLUMN")
    corpus = corpus_of(data, field=chosen.first, encoding=encoding)
    part = once and is_part(data)
    rows = prepare_rows(corpus, chosen, tokenizer, text=RAW, deduplicate=part, labels=model.config.labels)
    return evaluate_rows(model, rows, Frame.of(tokenizer, model.config.reads), min(length, model.config.context))


def measure_similarity(loaded: Loaded, data: str, *, fields: str, encoding: str | None = None) -> Similarity:
    """Spearman's and Pearson's correlation of the cosines of two texts' vectors with the scores people gave them.

    `fields` name two texts and a score: `text=COLUMN,pair=COLUMN,score=COLUMN`. Vectors are those of `yuwen apply
    embed`: pooled as published, else by the mean. UserError for rows that do not fit, or that all have one score.
    """
    chosen = parse_fields(fields)
    if chosen.texts != ("text", "pair") or chosen.score is None:
        raise UserError(
            f"--fields {fields}: {loaded.path} tells no classes; to measure whether it finds alike what people do, "
            "name two texts and a score: text=COLUMN,pair=COLUMN,score=COLUMN; for its loss leave --fields out"
        )
    start = time.perf_counter()
    found = list(rows(corpus_of(data, field=chosen.first, encoding=encoding).documents(), chosen))
    if not found:
        raise UserError(f"{data}: there are no rows")
    embedder = Embedder(loaded, published_pooling(loaded))
    texts = [[embedder.prepare(row.texts[n], f"{row.source}:{row.line}") for row in found] for n in (0, 1)]
    one_ND, other_ND = (torch.nn.functional.normalize(embedder(pieces), dim=-1) for pieces in texts)
    # equal texts may differ in the last digit, by their places in a batch
    cosines_N = (one_ND * other_ND).sum(-1).double().numpy().round(6)
    scores_N = np.array([row.score for row in found])
    return Similarity(
        spearman=spearman(cosines_N, scores_N),
        pearson=pearson(cosines_N, scores_N),
        rows=len(found),
        seconds=time.perf_counter() - start,
    )


def learnt_by(folder: Path) -> Recipe | None:
    """The recipe of the run that a folder is a checkpoint of; None for a folder that is none."""
    checkpoint = folder.resolve()  # `best` and `last` are links to one
    path = checkpoint.parent / "recipe.yaml"
    ours = (checkpoint / "training" / "manifest.json").is_file()  # others name their checkpoints so, too
    return read_recipe(path) if ours and path.is_file() else None


def _settings(folder: Path, fields: str | None) -> tuple[FieldsConfig, int, bool]:
    """(the columns, how many ids a text may have, whether equal rows count once), as the run that the folder is a
    checkpoint of was trained."""
    recipe = learnt_by(folder)
    data = None if recipe is None else recipe.data
    if fields is not None:
        chosen = parse_fields(fields)
    elif data is not None and data.fields is not None:
        chosen = data.fields
    else:
        chosen = FieldsConfig(text="text", label="label")
    return (chosen, _LONGEST, True) if data is None else (chosen, data.length, data.deduplicate)
