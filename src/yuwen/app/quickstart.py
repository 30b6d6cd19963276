"""The first two minutes of acquaintance: real text becomes a tokenizer, a model, a measurement and a report."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from yuwen.app.loading.load import load
from yuwen.app.pages.report import write_report
from yuwen.app.run.folder import claim
from yuwen.app.run.recipe import merge, parse_recipe
from yuwen.app.run.train import Summary, corpora, one_budget, train
from yuwen.data import Corpus
from yuwen.disk import replace_text
from yuwen.errors import UserError
from yuwen.evaluation import evaluate

_MARK = "quickstart"  # an empty file in the run folder
RECIPE = Path(__file__).with_name("quickstart.yaml")

# Bits per byte on the last 5 % of the sample's lines, given all the rest, of what a small model has to beat.
REFERENCES = {"sample:zh-news": {"5-gram of characters": 2.032, "xz -9": 2.407}}


def quickstart(
    data: str | None = None,
    *,
    minutes: float | None = None,
    run: Path = Path("runs/quickstart"),
    quiet: bool = False,
    overrides: list[str] | None = None,
) -> dict[str, Any]:
    """Trains on `data` (default sample:zh-news), measures on its last 5 %, writes `report.html`; returns the results.

    `minutes` bounds training with everything before it. A quickstart that stands in `run` already is replaced;
    UserError for any other folder, and whatever stood there stands there still after a mistake.
    """
    started = time.perf_counter()
    values = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    if data is not None:
        values["data"]["train"] = data
        del values["sample"]["prompts"]  # of another text
    if minutes is not None:
        values["train"]["minutes"] = minutes
    recipe = parse_recipe(merge(values, overrides or []), "quickstart")
    if recipe.objective is None or recipe.objective.name != "causal":
        raise UserError("quickstart shows a model that writes on, from nothing: for any other use yuwen train RECIPE")
    if not recipe.data.valid:
        raise UserError("quickstart measures the model on held-out text: set data.valid, such as data.valid=0.05")
    one_budget(recipe)
    learnt, held_out = corpora(recipe.data)
    assert held_out is not None
    if not recipe.sample.prompts:
        recipe = recipe.model_copy(update={"sample": recipe.sample.model_copy(update={"prompts": _prompts(learnt)})})
    with _replacing(run):
        summary = train(recipe, run, quiet=quiet, started=started)
    result = _measure(held_out, run)
    result["references"] = REFERENCES.get(str(recipe.data.train), {}) if recipe.data.valid == 0.05 else {}
    found = _finish(run, summary, result, started)
    write_report(run)
    return found


def _measure(held_out: Corpus, run: Path) -> dict[str, Any]:
    """The finished model, loaded back in fp32 as a user would, on the held-out text as it is."""
    began = time.perf_counter()
    loaded = load(run)
    assert loaded.tokenizer is not None
    score = evaluate(loaded.model, loaded.tokenizer, held_out.documents(), refuse_unknown=False)
    return {
        "bits_per_byte": score.bits_per_byte,
        "loss": score.loss,
        "perplexity": score.perplexity,
        "tokens": score.tokens,
        "bytes": score.bytes,
        "seconds": round(time.perf_counter() - began, 2),
    }


def _finish(run: Path, summary: Summary, result: dict[str, Any], started: float) -> dict[str, Any]:
    found = vars(summary)
    found["stages"]["evaluation"] = result["seconds"]
    found["result"] = result
    found["total_seconds"] = round(time.perf_counter() - started, 1)
    replace_text(run / "summary.json", json.dumps(found, ensure_ascii=False, indent=1))
    return found


def _prompts(learnt: Corpus) -> tuple[str, ...]:
    """Beginnings of three documents of the user's own data, for the model to continue."""
    prompts: list[str] = []
    for document in learnt.documents():
        words = document.text.strip().splitlines()[:1]
        if words and len(words[0]) >= 4:
            cut = words[0][:24]
            prompts.append(cut.rsplit(" ", 1)[0] if " " in cut.strip() else cut[:4])
        if len(prompts) == 3:
            break
    return tuple(prompts)


@contextlib.contextmanager
def _replacing(run: Path) -> Iterator[None]:
    """An empty run folder marked as a quickstart's, which the next one may replace: the last one steps aside, comes
    back if this one is a mistake, and goes when this one stands."""
    run = run.resolve()  # a link stays, and leads to the new one
    aside = run.with_name(f"{run.name}.before")
    if run.is_dir() and any(run.iterdir()):
        if not (run / _MARK).is_file():
            raise UserError(f"{run} holds something else than a quickstart: choose another --out or remove it first")
        with claim(run):  # not while another process trains into it
            if (aside / _MARK).is_file():  # this one was interrupted, and what it replaced is still there
                shutil.rmtree(run)
            else:
                run.rename(aside)
    with claim(run):
        (run / _MARK).touch()
    try:
        yield
    except UserError:
        if (aside / _MARK).is_file():
            shutil.rmtree(run)
            aside.rename(run)
        raise
    if (aside / _MARK).is_file():
        shutil.rmtree(aside)
