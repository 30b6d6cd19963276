"""WikiText-2 by words, as published: how far an hour on this machine comes, beside AWD-LSTM's 65.8.

    python benchmarks/wikitext2.py lstm                  # recipes/wikitext2-lstm.yaml, then test.txt: an hour
    python benchmarks/wikitext2.py transformer           # recipes/wikitext2-transformer.yaml

The recipe is trained as it stands, the best weights on valid.txt are kept, and both valid.txt and test.txt are measured
whole: 217,646 and 245,569 tokens of a closed vocabulary of 33,278, <unk> and the end of a line among them. The curve is
the run's own: epochs, minutes and perplexity on valid.txt. A run that is there already is gone on with, or measured
again. `key=value` changes a setting, and nothing is written then. Results: benchmarks/results/wikitext2.json.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from record import RESULTS, measured_on, read_result, write_result

from yuwen.app.loading.load import load
from yuwen.app.run.train import train_file
from yuwen.evaluation import documents_of, evaluate, window_and_stride
from yuwen.training.logging import read_metrics

ROOT = Path(__file__).parent.parent
FILE = RESULTS / "wikitext2.json"
PUBLISHED = {"AWD-LSTM": 65.8, "AWD-LSTM, its authors' code": 65.6}  # test; Merity et al. 2018: 33 M weights, no cache
STRIDE = {"lstm": None, "transformer": 32}  # a state has read everything; attention looks back over what is left


def result(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Trains, measures, and tells."""
    run = given.work / name
    recipe = ROOT / "recipes" / f"wikitext2-{name}.yaml"
    files = {part: given.data / f"{part}.txt" for part in ("train", "valid", "test")}
    where = [f"data.{part}={files[part]}" for part in ("train", "valid")]
    summary = train_file(recipe, run, [*where, *given.changes], resume="auto", quiet=given.quiet)
    loaded = load(run)
    assert loaded.tokenizer is not None
    config = loaded.model.config
    window, stride = window_and_stride(config.context, None, STRIDE[name], carries=config.CARRIES)
    scores = {
        part: evaluate(loaded.model, loaded.tokenizer, documents_of(str(files[part])), window=window, stride=stride)
        for part in ("valid", "test")
    }
    epoch = summary.data["tokens"]
    curve = [
        {
            "minutes": round(row["seconds"] / 60, 2),
            "epochs": round(row["tokens"] / epoch, 2),
            "valid": round(math.exp(row["valid_loss"]), 2),
        }
        for row in read_metrics(run / "metrics.jsonl")
        if row.get("valid_loss") is not None
    ]
    return {
        **{part: round(score.perplexity, 2) for part, score in scores.items()},
        "tokens": {part: score.tokens for part, score in scores.items()},
        "stride": stride,
        "parameters": summary.parameters,
        "seconds": summary.seconds,
        "measuring_seconds": round(sum(score.seconds for score in scores.values()), 1),
        "steps": summary.steps,
        "epochs": round(summary.tokens / epoch, 2),
        "curve": curve,
    }


def write(name: str, found: dict[str, Any]) -> None:
    """Merges one recipe's results into the file."""
    recipes = {**read_result(FILE).get("recipes", {}), name: {**found, **measured_on()}}
    write_result(FILE, {"data": "WikiText-2, word level", "published": PUBLISHED, "recipes": recipes})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=list(STRIDE))
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="of the recipe: a trial, nothing is written")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "wikitext-2")
    parser.add_argument("--work", type=Path, default=Path("runs/wikitext2"), help="folder of the runs")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    found = result(given.recipe, given)
    print(json.dumps({given.recipe: {key: value for key, value in found.items() if key != "curve"}}))
    if not given.changes:
        write(given.recipe, found)


if __name__ == "__main__":
    main()
