"""Does pretraining pay? Small models on reviews, pretrained without labels and not pretrained at all.

    python benchmarks/sentiment.py bert --minutes 15            # pretrain, fine-tune on labels, and the same untrained
    python benchmarks/sentiment.py albert                       # and xlnet, t5: half an hour each, results are merged
    python benchmarks/sentiment.py bert --dev --tune optimizer.lr=0.001    # choose settings, the test rows untouched

Every family: `minutes` of its own objective on sample:zh-news and, three times, sample:zh-reviews without labels, then
`epochs` on the labels, once for each seed; and the same fine-tuning (`untrained-epochs` of it) of fresh weights of that
shape, with the same tokenizer. Encoders that were pretrained go on telling hidden words while they learn labels, and
are measured without that, too (`labels_alone`). No text of the test side is seen in any of it. Test rows are those
whose text's SHA-256 begins with a byte under 26 (hash:26/256), after texts that occur with both labels are dropped: the
split of the TF-IDF baseline (character 1- to 3-grams, logistic regression), which reaches 0.859. Settings are not
chosen by the test rows but with --dev, where a part of the training rows (those below 0.2) plays the test, and the last
weights are measured; so is one model more, the mean of the weights of all fine-tunings of the same pretraining.
(All families were measured once with the reviews once in their text, before they stood there three times.) Runs stay in
--work, so that a family can be gone on with. Needs the extra "samples". Results are written to
benchmarks/results/sentiment.json.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

from record import RESULTS, measured_on, read_result, write_result

from yuwen.app.loading.average import average
from yuwen.app.loading.load import Loaded, load
from yuwen.app.run.measure import measure_classifier
from yuwen.app.run.recipe import merge, parse_recipe
from yuwen.app.run.train import train
from yuwen.data import corpus, prepare_rows, split
from yuwen.text import FieldsConfig
from yuwen.tokens import Tokenizer

FILE = RESULTS / "sentiment.json"
REVIEWS, HELD_OUT = "sample:zh-reviews", "hash:26/256"
BASELINE = 0.859  # TF-IDF of character 1- to 3-grams and logistic regression on the same split
FIELDS = {"text": "text", "label": "label"}
LENGTH, ROWS = 128, 32
WEIGHT = 3  # how often the reviews stand beside the news: text like that to be judged teaches most (Gururangan 2020)

SHAPES: dict[str, dict[str, Any]] = {
    "bert": {"layers": 4, "width": 256, "heads": 4},
    "albert": {"layers": 4, "width": 256, "heads": 4, "embedding_width": 128},
    "xlnet": {"layers": 4, "width": 256, "heads": 4, "memory": 0},
    "t5": {"layers": 2, "encoder_layers": 4, "width": 256, "heads": 4},
}
PRETRAIN: dict[str, Any] = {
    "tokenizer": {"kind": "bpe", "vocabulary": 8192},
    "optimizer": {"name": "muon", "lr": 0.01, "table_lr": 0.002, "weight_decay": 0.1},
    "schedule": {"name": "linear", "warmup": 100},
    "train": {"batch_tokens": ROWS * LENGTH, "evaluate_every": 0, "checkpoint_every": 0},
}
OWN: dict[str, dict[str, Any]] = {
    "bert": {"objective": {"name": "masked", "rate": 0.3, "whole_words": True, "ngrams": 3}},
    "albert": {"objective": {"name": "sentence_order", "rate": 0.3}},
    "xlnet": {"objective": {"name": "permuted", "one_in": 3}},
    "t5": {"objective": {"name": "span", "rate": 0.3}},
}
"""What a family learns: its own objective, with twice as much hidden as in its paper, as minutes are what is short
(Wettig et al. 2023). BERT goes without next sentences, which here tell little but news from reviews, and hides whole
words in runs of up to three, as ALBERT does (0.875 beside 0.872 with --dev 0.3, one seed)."""
TUNE: dict[str, Any] = {
    "objective": {"name": "classify"},
    "optimizer": {"name": "adamw", "lr": 3e-4, "weight_decay": 0.01},
    "schedule": {"name": "linear", "warmup": 0.06},
    "train": {"batch_tokens": ROWS * LENGTH, "evaluate_every": 0, "checkpoint_every": 0, "minutes": 0},
}
ARMS = ("pretrained", "labels_alone", "untrained")
LANGUAGE = {"bert": 1.0, "albert": 1.0}
"""Encoders that were pretrained go on telling hidden words while they learn labels (0.879 beside 0.872 with --dev 0.3,
two seeds of BERT)."""


def pretrain(family: str, arguments: argparse.Namespace, held_out: str) -> tuple[Path, dict[str, Any]]:
    """The run that learnt from text alone, and what is to be known of it. One of this recipe that is there is used."""
    run = arguments.work / f"{family}-{arguments.minutes:g}-{held_out.replace('/', '-').replace(':', '-')}"
    data = {"train": ["sample:zh-news", *[REVIEWS] * WEIGHT], "valid": held_out, "length": LENGTH, "deduplicate": False}
    values = {"data": data, **PRETRAIN, **OWN[family], "model": {"family": family, **SHAPES[family]}}
    values = merge(values, [f"train.minutes={arguments.minutes}", "train.steps=0", *arguments.pretrain])
    train(parse_recipe(values), run, quiet=arguments.quiet, resume="auto", preparation_counts=False)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    kept = ("steps", "tokens", "seconds", "parameters", "best_loss", "objective")
    return run, {"minutes": arguments.minutes, **{key: summary[key] for key in kept}, "recipe": values}


def tune(
    settings: dict[str, Any],
    start: dict[str, Any],
    source: str,
    held_out: str,
    pretrained: Path,
    epochs: float,
    seed: int,
    name: str,
    arguments: Any,
) -> tuple[Path, dict[str, Any]]:
    """A run that learnt labels, and its last weights, whatever they are, measured on the rows held out."""
    run = arguments.work / f"{pretrained.name}-{name}-{epochs:g}-{seed}"
    data = {"train": source, "valid": held_out, "length": LENGTH, "fields": FIELDS}
    rows = _rows(source, held_out, pretrained)
    steps = math.ceil(epochs * rows / ROWS)
    values = {"data": data, "tokenizer": {"from": str(pretrained)}, "model": start, **settings}
    values = merge(values, [f"train.steps={steps}", f"train.seed={seed}", "model.dropout=0.1", *arguments.tune])
    summary = train(parse_recipe(values), run, quiet=arguments.quiet, resume="auto")
    found = measured(load(run / "last"), source, held_out)
    done = {"seed": seed, **found, "epochs": epochs, "seconds": summary.seconds}
    print(json.dumps({"run": name, **done}), flush=True)
    return run, done


def measured(loaded: Loaded, source: str, held_out: str) -> dict[str, Any]:
    """How often a classifier is right about the rows held out."""
    found = measure_classifier(loaded, f"{source}[{held_out}]", fields="text=text,label=label")
    figures = {"accuracy": found.accuracy, "macro_f1": found.macro_f1, "loss": found.loss}
    return {**{name: round(figure, 4) for name, figure in figures.items()}, "rows": found.rows}


def family_result(family: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything about one family."""
    held_out, source = HELD_OUT, REVIEWS
    if arguments.dev:
        source, held_out = str(_training_side(arguments.work)), f"hash:{arguments.dev:g}"
    run, told = pretrain(family, arguments, HELD_OUT)
    fresh = {"family": family, **SHAPES[family]}
    results: dict[str, Any] = {"pretraining": told, "tuning": merge(TUNE, arguments.tune)}
    language = LANGUAGE.get(family, 0.0)
    for name, start, epochs in (
        ("pretrained", {"from": str(run)}, arguments.epochs),
        ("labels_alone", {"from": str(run)}, arguments.epochs if language else 0.0),
        ("untrained", fresh, arguments.untrained_epochs),
    ):
        settings = merge(TUNE, [f"objective.language={language:g}"] if language and name == "pretrained" else [])
        if name in arguments.only and epochs:
            kind = f"{'dev-' if arguments.dev else ''}{name}"
            tuned = [
                tune(settings, start, source, held_out, run, epochs, seed, kind, arguments) for seed in arguments.seeds
            ]
            runs = [told for _, told in tuned]
            shares = [one["accuracy"] for one in runs]
            spread = {"lowest": min(shares), "highest": max(shares)}
            accuracy = round(statistics.mean(shares), 4)
            results[name] = {"accuracy": accuracy, **spread, "objective": settings["objective"], "runs": runs}
            if name == "pretrained" and len(tuned) > 1:  # fresh weights of several seeds have no mean
                mean = average([load(folder / "last") for folder, _ in tuned])
                results[name]["mean_of_weights"] = measured(mean, source, held_out)
                print(json.dumps({"run": f"{kind}, mean of weights", **results[name]["mean_of_weights"]}), flush=True)
    return results


def write(family: str, found: dict[str, Any]) -> None:
    """Merges one family's results into the file."""
    families = read_result(FILE).get("families", {})
    merged = {**families.get(family, {}), **found, **measured_on()}
    if "pretrained" in merged and "untrained" in merged:
        merged["gain"] = round(merged["pretrained"]["accuracy"] - merged["untrained"]["accuracy"], 4)
    families[family] = merged
    measured = {name: one["pretrained"]["accuracy"] for name, one in families.items() if "pretrained" in one}
    best = max(measured, key=lambda name: measured[name], default=None)
    leader = None if best is None else {"family": best, "accuracy": measured[best]}
    found = {"data": f"{REVIEWS}[{HELD_OUT}]", "tfidf": BASELINE, "best": leader, "families": families}
    write_result(FILE, found)


def _rows(source: str, held_out: str, pretrained: Path) -> int:
    """How many rows are learnt from; preparing them is cached, so that training finds them made."""
    whole = corpus(source, field=FIELDS["text"])
    learnt, measured = split(whole, held_out)
    tokenizer = Tokenizer.load(pretrained / "last")
    return len(prepare_rows(learnt, FieldsConfig(**FIELDS), tokenizer, exclude=measured))


def _training_side(work: Path) -> Path:
    """The labelled rows that are not the test's, as a file of their own."""
    path = work / "training-side.jsonl"
    if not path.is_file():
        learnt, _ = split(corpus(REVIEWS, field="text"), HELD_OUT)
        lines = [json.dumps({"text": d.text, **d.fields}, ensure_ascii=False) for d in learnt.documents()]
        work.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="+", choices=list(SHAPES))
    parser.add_argument("--minutes", type=float, default=15.0, help="of pretraining")
    parser.add_argument("--epochs", type=float, default=3.0, help="over the labels, after pretraining")
    parser.add_argument("--untrained-epochs", type=float, help="over the labels, without pretraining (as many)")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(ARMS))
    parser.add_argument("--pretrain", action="append", default=[], metavar="KEY=VALUE", help="of its recipe")
    parser.add_argument("--tune", action="append", default=[], metavar="KEY=VALUE", help="of the fine-tuning's recipe")
    parser.add_argument(
        "--dev",
        nargs="?",
        type=float,
        const=0.2,
        help="the training rows below this hash play the test (0.2); nothing is written",
    )
    parser.add_argument("--work", type=Path, default=Path("runs/sentiment"), help="folder of the runs")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    arguments.untrained_epochs = arguments.untrained_epochs or arguments.epochs
    for family in arguments.families:
        found = family_result(family, arguments)
        if arguments.dev:
            print(json.dumps({family: {name: found[name]["accuracy"] for name in ARMS if name in found}}))
        else:
            write(family, found)


if __name__ == "__main__":
    main()
