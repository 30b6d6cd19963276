"""Are the recipes' learning rates right on this text? Each family at its recipe's rates, at half, and at twice these.

    python benchmarks/rates.py gpt2 palm llama qwen3 transformer lstm       # WikiText-2, 40 minutes on two cores
    python benchmarks/rates.py bert roberta albert xlnet t5 bart            # the other families, merged into the file
    python benchmarks/rates.py qwen3 --train sample:zh-news --valid 0.05    # another text
    python benchmarks/rates.py lstm --tokens 4e6 --times 1,2,4              # a longer run, other rates

Every run is recipes/FAMILY.yaml as it stands but for the text, the budget and `optimizer.lr` and `optimizer.table_lr`
together, one seed: equal tokens, so that a busy machine changes nothing but the time. Scores are those of `yuwen
compare` on all that is held out: bits per byte, pseudo ones of the models that read both sides, which compare with
themselves alone. Runs stay in --work, so that what is finished is not run again. Results are merged into
benchmarks/results/rates.json, by text, family and tokens.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from record import RESULTS, measured_on, read_result, write_result

from yuwen.app.compare import Budget, compare
from yuwen.app.run.recipe import read_recipe

ROOT = Path(__file__).parent.parent
WIKITEXT = ROOT.parent / "shared" / "data" / "wikitext-2" / "train.txt"
FILE = RESULTS / "rates.json"
SHOWN = ("bits_per_byte", "pseudo", "tokens", "seconds")


def measured(family: str, given: argparse.Namespace) -> dict[str, Any]:
    """One family's scores, by how many times its recipe's rates."""
    path = ROOT / "recipes" / f"{family}.yaml"
    optimizer = read_recipe(path).optimizer
    rates = {"lr": optimizer.lr, "table_lr": optimizer.table_lr}
    text = [f"data.train={given.train}", f"data.valid={given.valid}", "train.evaluate_every=0"]
    scores = {}
    for factor in given.times:
        changed = [f"optimizer.{key}={rate * factor:g}" for key, rate in rates.items() if rate is not None]
        result = compare(
            [path],
            budget=Budget(tokens=given.tokens),
            out=given.work / f"{Path(given.train).stem.replace(':', '-')}-{family}-{given.tokens}-{factor:g}",
            overrides=[*text, *changed, *given.changes],
            quiet=given.quiet,
        )
        [run] = result["runs"]
        scores[f"{factor:g}"] = {key: run[key] for key in SHOWN}
        print(json.dumps({"family": family, "rates": factor, **scores[f"{factor:g}"]}), flush=True)
    return {"recipe": rates, "times": scores, **measured_on()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="+", help="names in recipes/, and key=value for all of them")
    parser.add_argument("--train", default=str(WIKITEXT))
    parser.add_argument("--valid", default="0.02", help="held out: the last of the training text, or a DATA")
    parser.add_argument("--tokens", type=float, default=1e6, help="of each run")
    parser.add_argument("--times", default="0.5,1,2", help="by what the recipe's rates are multiplied")
    parser.add_argument("--work", type=Path, default=Path("runs/rates"))
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    given.changes = [word for word in given.families if "=" in word]
    given.tokens = int(given.tokens)
    given.times = [float(factor) for factor in given.times.split(",")]
    for family in [word for word in given.families if "=" not in word]:
        found = measured(family, given)
        if given.changes:
            continue  # a trial: nothing is written
        kept = read_result(FILE)
        text = given.train if ":" in given.train else Path(given.train).parent.name
        budgets = kept.setdefault(text, {}).setdefault(family, {})
        earlier = budgets.get(str(given.tokens), {})
        same = earlier.get("recipe") == found["recipe"]  # times of other rates would mean something else
        times = (earlier["times"] if same else {}) | found["times"]
        budgets[str(given.tokens)] = {**found, "times": dict(sorted(times.items(), key=lambda item: float(item[0])))}
        write_result(FILE, kept)


if __name__ == "__main__":
    main()
