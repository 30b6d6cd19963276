"""How well models classify without training: a decoder by label likelihoods, an encoder by examples' centroids.

    python benchmarks/few_shot.py decoder MODEL [--sets sst2,ag_news,thucnews10,chnsenticorp] [--shots 0,4] [--raw]
    python benchmarks/few_shot.py encoder MODEL [--per-class 5] [--draws 5]
    python benchmarks/few_shot.py tune MODEL

`decoder`: 500 texts of each set, drawn with seed 0 from its test part; k examples drawn with seeds 1, 2, 3 from another
part (AG News has no other here: from the test rows that were not drawn), as many of each class as divide k, else of
classes at random. Accuracy with and without contextual calibration, with Wilson's 95 % interval; for k > 0 the mean
over the seeds too, which is the figure to compare (one draw says little).

`encoder`: the whole test part of banking77, 5 examples of each class drawn from its training part by seeds 1 … 5, at
`yuwen apply`'s defaults. `tune` chose those defaults: on training rows only (examples and texts to classify both from
train.csv, seeds from 100 on), it compares blends and label prompts; the test part is never opened.

Data lies under $YUWEN_SHARED/data (default: ../shared beside the repository). Prints JSON, and writes it to
benchmarks/results/few-shot-NAME.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import yuwen
from yuwen import tasks
from yuwen.interop.sentence import read_pooling
from yuwen.tasks.centroids import BLEND, class_vectors
from yuwen.tasks.embed import Embedder
from yuwen.tasks.shots import Example, choose
from yuwen.text import Document

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


def examples(rows: Rows, labels: list[str], count: int, seed: int) -> list[Document]:
    """`count` examples, spread over the classes as evenly as can be."""
    generator = random.Random(seed)
    order = [label for _ in range(-(-count // len(labels))) for label in generator.sample(labels, len(labels))][:count]
    found = [generator.choice([text for text, own in rows if own == label]) for label in order]
    together = list(zip(found, order, strict=True))
    generator.shuffle(together)
    return [Document(text, "examples", n, fields={"label": label}) for n, (text, label) in enumerate(together, 1)]


def wilson(right: int, total: int, z: float = 1.959964) -> list[float]:
    """Wilson's 95 % interval of a share (Wilson 1927)."""
    share = right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return [round(centre - half, 4), round(centre + half, 4)]


def accuracy(found: list[str], rows: Rows) -> dict[str, Any]:
    right = sum(label == own for label, (_, own) in zip(found, rows, strict=True))
    return {"accuracy": round(right / len(rows), 4), "interval": wilson(right, len(rows)), "texts": len(rows)}


def decoder(loaded: Any, sets: list[str], counts: list[int], raw: bool, normalise: str) -> list[dict[str, Any]]:
    results = []
    for name in sets:
        test, other = sample(name)
        labels = sorted({label for _, label in test})
        for count in counts:
            for calibration in (False, True):
                runs = []
                for seed in SHOT_SEEDS if count else (0,):
                    shots = {"shots": examples(other, labels, count, seed)} if count else {}
                    start = time.perf_counter()
                    rows = tasks.classify(
                        loaded, [text for text, _ in test], labels=labels, calibration=calibration,
                        raw=raw or None, normalise=normalise, **shots,
                    )  # fmt: skip
                    found = [row["label"] for row in rows]
                    seconds = round(time.perf_counter() - start, 1)
                    runs.append({"seed": seed, **accuracy(found, test), "seconds": seconds})
                mean = round(sum(run["accuracy"] for run in runs) / len(runs), 4)
                result = {"set": name, "shots": count, "calibration": calibration, "accuracy": mean, "runs": runs}
                print(json.dumps(result), flush=True)
                results.append(result)
    return results


def banking(part: str) -> Rows:
    with (DATA / "banking77" / f"{part}.csv").open(encoding="utf-8", newline="") as file:
        return [(row["text"], row["category"]) for row in csv.DictReader(file)]


def encoder(loaded: Any, per_class: int, draws: int) -> dict[str, Any]:
    train, test = banking("train"), banking("test")
    shots = [Document(text, "train.csv", n, fields={"label": label}) for n, (text, label) in enumerate(train, 1)]
    runs = []
    for seed in range(1, draws + 1):
        start = time.perf_counter()
        rows = tasks.classify(
            loaded, [text for text, _ in test], shots=shots, per_class=per_class, seed=seed,
            pooling=read_pooling(loaded.path),
        )  # fmt: skip
        run = {"seed": seed, **accuracy([row["label"] for row in rows], test)}
        runs.append({**run, "seconds": round(time.perf_counter() - start, 1)})
        print(json.dumps(runs[-1]), flush=True)
    shares = [run["accuracy"] for run in runs]
    mean = sum(shares) / len(shares)
    return {"set": "banking77", "per_class": per_class, "blend": BLEND, "accuracy": round(mean, 4),
            "lowest": min(shares), "highest": max(shares), "runs": runs}  # fmt: skip


LABEL_PROMPTS = [
    "{}", "{}?", "This is about {}.", "My question is about {}.", "I have a question about {}.", "What about {}?",
]  # fmt: skip


def tune(loaded: Any, per_class: int = 5, draws: int = 10) -> list[dict[str, Any]]:
    """Blends and label prompts, compared on training rows only."""
    train = banking("train")
    embedder = Embedder(loaded, read_pooling(loaded.path))
    names = sorted({label for _, label in train})
    states_ND = torch.nn.functional.normalize(embedder.texts([text for text, _ in train]), dim=-1)
    place = {text: n for n, (text, _) in enumerate(train)}
    known = {text: states_ND[n] for text, n in place.items()}

    class Known:
        """Texts that have been embedded before."""

        def texts(self, texts: list[str]) -> torch.Tensor:
            for text in texts:
                if text not in known:
                    known[text] = embedder.texts([text])[0]
            return torch.stack([known[text] for text in texts])

    own = torch.tensor([names.index(label) for _, label in train])
    results = []
    for prompt in LABEL_PROMPTS:
        texts = [prompt.format(label.replace("_", " ")) for label in names]
        for blend in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
            shares = []
            for seed in range(100, 100 + draws):
                shots = choose([Example(text, label) for text, label in train], per_class, seed)
                vectors_KD = class_vectors(Known(), names, texts, shots, blend)  # type: ignore[arg-type]
                right_N = (states_ND @ vectors_KD.T).argmax(-1) == own
                right_N[[place[shot.text] for shot in shots]] = False
                shares.append(int(right_N.sum()) / (len(train) - len(shots)))
            result = {"label_prompt": prompt, "blend": blend, "accuracy": round(sum(shares) / len(shares), 4)}
            print(json.dumps(result), flush=True)
            results.append(result)
    return sorted(results, key=lambda result: -result["accuracy"])


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
        settings |= {"sample": SAMPLE, "sample_seed": SAMPLE_SEED, "shot_seeds": SHOT_SEEDS, "raw": arguments.raw,
                     "normalise": arguments.normalise, "chat": loaded.chat and not arguments.raw}  # fmt: skip
        results: Any = decoder(loaded, arguments.sets.split(","), counts, arguments.raw, arguments.normalise)
    elif arguments.mode == "encoder":
        results = encoder(loaded, arguments.per_class, arguments.draws)
    else:
        results = tune(loaded)
    name = arguments.name or re.sub(r"[^\w.-]+", "-", Path(arguments.model).stem.lower()).strip("-")
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / f"few-shot-{arguments.mode}-{name}.json"
    settings["model"] = arguments.model if ":" in arguments.model else Path(arguments.model).name
    out.write_text(json.dumps({**settings, "results": results}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"written to {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
