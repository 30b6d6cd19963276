"""How long an objective takes to make a batch of windows: the part of a step in which nothing is learnt.

    python benchmarks/objectives.py [--rows 16] [--length 256] [--repeats 200] [--out FILE.json]

Real text: the beginning of sample:zh-news, cut by a vocabulary of 4096. One core; ms, the median and the best.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from yuwen.app.machine import resources
from yuwen.data import Corpus, Windows, prepare
from yuwen.objectives import SPECIAL_TOKENS, ObjectiveConfig, build_objective
from yuwen.text import read
from yuwen.tokens import TokenizerConfig, train, training_texts

ALL_NOISES = {"mask": 0.1, "delete": 0.1, "rotate": True}
CASES: dict[str, tuple[dict[str, object], str]] = {
    "causal": ({"name": "causal"}, "forwards"),
    "prefix": ({"name": "prefix"}, "forwards"),
    "masked": ({"name": "masked"}, "both"),
    "masked, static": ({"name": "masked", "static": True}, "both"),
    "masked, whole words, 3-grams": ({"name": "masked", "whole_words": True, "ngrams": 3}, "both"),
    "next_sentence": ({"name": "next_sentence"}, "both"),
    "sentence_order": ({"name": "sentence_order"}, "both"),
    "permuted": ({"name": "permuted"}, "permuted"),
    "span": ({"name": "span"}, "pairs"),
    "denoising": ({"name": "denoising"}, "pairs"),
    "denoising, all noises": ({"name": "denoising", **ALL_NOISES}, "pairs"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/objectives.json"))
    asked = parser.parse_args()
    documents = list(islice(read("sample:zh-news"), 4000))
    specials = tuple(dict.fromkeys(text for texts in SPECIAL_TOKENS.values() for text in texts))
    tokenizer = train(training_texts(documents), TokenizerConfig(vocabulary=4096, specials=specials))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        text = Corpus("sample:zh-news", lambda: iter(documents), "benchmark")
        samples = Windows(prepare(text, tokenizer, out=f"{folder}/data"), asked.length).samples(np.arange(asked.rows))
        for name, (settings, reads) in CASES.items():
            config = TypeAdapter(ObjectiveConfig).validate_python(settings)
            objective = build_objective(config, tokenizer, reads)  # type: ignore[arg-type]
            seconds = []
            for repeat in range(asked.repeats):
                rng = np.random.default_rng(repeat)
                began = time.perf_counter()
                objective.prepare(samples, rng)
                seconds.append(time.perf_counter() - began)
            rows.append({"objective": name, "ms": _ms(statistics.median(seconds)), "best_ms": _ms(min(seconds))})
            print(json.dumps(rows[-1]), flush=True)
    result = {
        "rows": asked.rows,
        "length": asked.length,
        "repeats": asked.repeats,
        "processor": resources.processor(),
        "numpy": np.__version__,
        "results": rows,
    }
    asked.out.parent.mkdir(exist_ok=True)
    asked.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


if __name__ == "__main__":
    main()
