"""How well models classify without training: a decoder by label likelihoods, an encoder by examples' centroids.

    python benchmarks/few_shot.py decoder MODEL [--sets sst2,ag_news,thucnews10,chnsenticorp] [--shots 0,4] [--raw]
    python benchmarks/few_shot.py encoder MODEL [--per-class 5] [--draws 5]
    python benchmarks/few_shot.py tune MODEL

`decoder`: 500 texts of each set, drawn with seed 0 from its test part; k examples drawn with seeds 1, 2, 3 from another
part (AG News has no other here: from the test rows that were not drawn), as many of each class as divide k, else of
classes at random. Accuracy with and without contextual calibration, with Wilson's 95 % interval; for k > 0 the mean
over the seeds too, which is the figure to compare (one draw says little).

`encoder`: the whole test part of banking77, 5 examples of each class drawn from its training part by seeds 1 … 5, at
`yuwen apply`'s defaults. `tune` chose those defaults: on training rows only (25 of each class by seed 7; of these 5 are
examples by seeds 100 … 109, the others are judged) it compares settings of `tasks.centroids` and label prompts; the
test part is never opened.

Data lies under $YUWEN_SHARED/data (default: ../shared beside the repository). Prints JSON, and writes it to
benchmarks/results/few-shot-NAME.json.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import yuwen
from yuwen.interop.sentence import read_pooling
from yuwen.tasks.batches import chunks
from yuwen.tasks.calibrate import calibrate
from yuwen.tasks.centroids import BLEND, NEAREST, SHRINKAGE, Classes
from yuwen.tasks.classify import Scorer
from yuwen.tasks.embed import Embedder
from yuwen.tasks.language import language_of
from yuwen.tasks.prompts import Prompt
from yuwen.tasks.shots import Example, choose

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("YUWEN_SHARED", ROOT.parent / "shared")) / "data"
RESULTS = ROOT / "benchmarks" / "results"
SAMPLE, SAMPLE_SEED, SHOT_SEEDS = 500, 0, (1, 2, 3)

Rows = list[tuple[str, str]]
THUC = {"finance": "财经", "realty": "房产", "stocks": "股票", "education": "教育", "science": "科技",
        "society": "社会", "politics": "时政", "sports": "体育", "game": "游戏", "entertainment": "娱乐"}  # fmt: skip


def sst2() -> tuple[Rows, Rows]:
    names = {"0": "negative", "1": "positive"}
    return _tsv("sst2/test.tsv", names), _tsv("sst2/train.tsv", names)


def chnsenticorp() -> tuple[Rows, Rows]:
    names = {"0": "负面", "1": "正面"}
    test, train = (_lines(f"chnsenticorp/{part}.tsv")[1:] for part in ("test", "train"))
    return [(text, names[label]) for label, text in test], [(text, names[label]) for label, text in train]


def thucnews10() -> tuple[Rows, Rows]:
    names = {str(number): THUC[name] for number, (name,) in enumerate(_lines("thucnews10/class.txt"))}
    return _tsv("thucnews10/test.txt", names), _tsv("thucnews10/dev.txt", names)


def ag_news() -> tuple[Rows, Rows]:
    names = {"1": "World", "2": "Sports", "3": "Business", "4": "Technology"}
    with (DATA / "ag_news" / "test.csv").open(encoding="utf-8", newline="") as file:
        rows = [(f"{title}. {text}", names[label]) for label, title, text in csv.reader(file)]
    return rows, []


SETS: dict[str, Callable[[], tuple[Rows, Rows]]] = {
    "sst2": sst2, "ag_news": ag_news, "thucnews10": thucnews10, "chnsenticorp": chnsenticorp,
}  # fmt: skip


def _lines(file: str) -> list[list[str]]:
    with (DATA / file).open(encoding="utf-8") as stream:
        return [line.rstrip("\n").split("\t") for line in stream if line.strip()]


def _tsv(file: str, names: dict[str, str]) -> Rows:
    return [(text, names[label]) for text, label in _lines(file)]


def sample(name: str) -> tuple[Rows, Rows]:
    """(500 texts to classify, rows that examples may come from)."""
    test, other = SETS[name]()
    drawn = random.Random(SAMPLE_SEED).sample(range(len(test)), SAMPLE)
    chosen = set(drawn)
    return [test[n] for n in drawn], other or [row for n, row in enumerate(test) if n not in chosen]


def examples(rows: Rows, labels: list[str], count: int, seed: int) -> list[Example]:
    """`count` examples, spread over the classes as evenly as can be."""
    generator = random.Random(seed)
    order = [label for _ in range(-(-count // len(labels))) for label in generator.sample(labels, len(labels))][:count]
    found = [Example(generator.choice([text for text, own in rows if own == label]), label) for label in order]
    generator.shuffle(found)
    return found


def wilson(right: int, total: int, z: float = 1.959964) -> list[float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    share = right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return [round(centre - half, 4), round(centre + half, 4)]


def accuracy(found: list[str], rows: Rows) -> dict[str, Any]:
    right = sum(label == own for label, (_, own) in zip(found, rows, strict=True))
    return {"accuracy": round(right / len(rows), 4), "interval": wilson(right, len(rows)), "texts": len(rows)}


def decoder(
    loaded: Any, sets: list[str], counts: list[int], raw: bool, normalise: str, seeds: tuple[int, ...]
) -> Iterator[dict[str, Any]]:
    """One result for each set and number of examples; scored once, judged with and without calibration."""
    for name in sets:
        test, other = sample(name)
        labels = sorted({label for _, label in test})
        language = language_of("".join(text for text, _ in test))
        for count in counts:
            runs = []
            for seed in seeds if count else seeds[:1]:
                shots = examples(other, labels, count, seed)
                scorer = Scorer(
                    loaded, labels, shots, Prompt.of("classify"),
                    mean=normalise == "mean", raw=raw, language=language, calibrated=False,
                )  # fmt: skip
                start = time.perf_counter()
                asked = (scorer.prepare(text, f"{name}:{n}") for n, (text, _) in enumerate(test, 1))
                p_NK = np.concatenate([scorer(chunk) for chunk in chunks(asked, SAMPLE)])
                seconds = time.perf_counter() - start
                q_NK = calibrate(p_NK, scorer.prior(language))
                plain, calibrated = ([labels[k] for k in found_NK.argmax(-1)] for found_NK in (p_NK, q_NK))
                runs.append({
                    "seed": seed if count else None,
                    "plain": accuracy(plain, test),
                    "calibrated": accuracy(calibrated, test),
                    "seconds": round(seconds, 1),
                })  # fmt: skip
            kinds = ("plain", "calibrated")
            means = {kind: round(sum(run[kind]["accuracy"] for run in runs) / len(runs), 4) for kind in kinds}
            yield {"set": name, "shots": count, **means, "runs": runs}


def banking(part: str) -> Rows:
    with (DATA / "banking77" / f"{part}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def encoder(loaded: Any, per_class: int, draws: int) -> dict[str, Any]:
    """What `tasks.classify` does with its defaults, the texts embedded once for all draws."""
    train, test = ([Example(text, label) for text, label in banking(part)] for part in ("train", "test"))
    labels, prompt = sorted({row.label for row in train}), Prompt.of("label")
    embedder, start = Embedder(loaded, read_pooling(loaded.path)), time.perf_counter()
    names_KD = embedder.texts([prompt.render("en", label=label) for label in labels])
    states_ND = embedder.texts([row.text for row in test])
    seconds, runs = time.perf_counter() - start, []
    for seed in range(1, draws + 1):
        shots = choose(train, per_class, seed)
        own_N = torch.tensor([labels.index(shot.label) for shot in shots])
        classes = Classes(names_KD, embedder.texts([shot.text for shot in shots]), own_N)
        found = [labels[k] for k in classes.scores(states_ND).argmax(-1).tolist()]
        runs.append({"seed": seed, **accuracy(found, [(row.text, row.label) for row in test])})
    shares = [run["accuracy"] for run in runs]
    chosen = {"blend": BLEND, "nearest": NEAREST, "shrinkage": SHRINKAGE}
    mean = {"accuracy": round(sum(shares) / len(shares), 4), "lowest": min(shares), "highest": max(shares)}
    speed = {"texts_per_second": round(len(test) / seconds, 1)}
    return {"set": "banking77", "per_class": per_class, **chosen, **mean, **speed, "runs": runs}


def tune(loaded: Any, per_class: int) -> Iterator[dict[str, Any]]:
    """Settings of `tasks.centroids`, compared on 25 training rows of each class; examples are not judged."""
    generator, classes = random.Random(7), dict[str, list[str]]()
    for text, label in banking("train"):
        classes.setdefault(label, []).append(text)
    names = sorted(classes)
    texts = [generator.sample(classes[name], min(25, len(classes[name]))) for name in names]
    own_N = torch.tensor([k for k, members in enumerate(texts) for _ in members])
    embedder = Embedder(loaded, read_pooling(loaded.path))
    states_ND = embedder.texts([text for members in texts for text in members])
    for prompt in ("{}", "{}?", "My question is about {}."):
        names_KD = embedder.texts([prompt.format(name.replace("_", " ")) for name in names])
        for blend, nearest, shrinkage in itertools.product((0.0, 0.2, 0.3, 0.4), (0.0, 0.3, 0.5), (0.5, 0.8, 1.0)):
            shares = []
            for seed in range(100, 110):
                draw = random.Random(seed)
                rows = [
                    n for k in range(len(names)) for n in draw.sample((own_N == k).nonzero()[:, 0].tolist(), per_class)
                ]
                known = Classes(
                    names_KD, states_ND[rows], own_N[rows], blend=blend, nearest=nearest, shrinkage=shrinkage
                )
                right_N = known.scores(states_ND).argmax(-1) == own_N
                right_N[rows] = False
                shares.append(int(right_N.sum()) / (len(own_N) - len(rows)))
            setting = {"label_prompt": prompt, "blend": blend, "nearest": nearest, "shrinkage": shrinkage}
            yield {**setting, "accuracy": round(sum(shares) / len(shares), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["decoder", "encoder", "tune"])
    parser.add_argument("model")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--shots", default="0,4")
    parser.add_argument("--raw", action="store_true", help="plain text, for a chat model too")
    parser.add_argument("--normalise", default="mean", choices=["mean", "sum"])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--per-class", type=int, default=5)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--name", help="of the file of results; by default that of the model")
    arguments = parser.parse_args()
    loaded = yuwen.load(arguments.model, arguments.dtype)
    settings = {"model": arguments.model, "hash": loaded.hash, "mode": arguments.mode, "dtype": arguments.dtype,
                "yuwen": yuwen.__version__, "torch": torch.__version__}  # fmt: skip
    if arguments.mode == "decoder":
        counts = [int(count) for count in arguments.shots.split(",")]
        seeds = SHOT_SEEDS[: arguments.draws]
        settings |= {"sample": SAMPLE, "sample_seed": SAMPLE_SEED, "shot_seeds": seeds, "raw": arguments.raw,
                     "normalise": arguments.normalise, "chat": loaded.chat and not arguments.raw}  # fmt: skip
        results = decoder(loaded, arguments.sets.split(","), counts, arguments.raw, arguments.normalise, seeds)
    elif arguments.mode == "encoder":
        results = iter([encoder(loaded, arguments.per_class, arguments.draws)])
    else:
        results = tune(loaded, arguments.per_class)
    name = arguments.name or re.sub(r"[^\w.-]+", "-", Path(arguments.model).stem.lower()).strip("-")
    out = RESULTS / f"few-shot-{arguments.mode}-{name}.json"
    RESULTS.mkdir(exist_ok=True)
    settings["model"] = arguments.model if ":" in arguments.model else Path(arguments.model).name
    done = []
    for result in results:  # written as they come: a set may take long
        done.append(result)
        print(json.dumps(result, ensure_ascii=False), flush=True)
        text = json.dumps({**settings, "results": done}, ensure_ascii=False, indent=1)
        out.write_text(text + "\n", encoding="utf-8")
    print(f"written to {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
