"""How fast, and in how much memory, a corpus is prepared, beside the raw rate of `tokenizers` on the same text.

    python benchmarks/prepare.py CORPUS.txt|CORPUS.jsonl --tokenizer DIR [--rounds N]

Raw is the least one could do: read 1,000 lines at a time (parsed, if they are JSON) and call `encode_batch`, with all
threads; nothing is cleaned, deduplicated, marked or written. Both run in processes of their own, by turns. Prints one
JSON line: the ratio is raw seconds / prepare seconds, cpu_ratio the same in processor time (which a busy machine
disturbs less), memory is the sum over processes of the proportional set size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from memory_in_use import memory_in_use


def raw(path: str, tokenizer: str) -> dict[str, float]:
    import tokenizers

    encoder = tokenizers.Tokenizer.from_file(str(Path(tokenizer) / "tokenizer.json"))
    parse = (lambda line: json.loads(line)["text"]) if path.endswith(".jsonl") else (lambda line: line)
    start, size, tokens = time.perf_counter(), 0, 0
    with Path(path).open(encoding="utf-8") as file:
        while texts := [parse(line) for line in islice(file, 1000)]:
            tokens += sum(len(encoding.ids) for encoding in encoder.encode_batch(texts))
            size += sum(len(text.encode()) for text in texts)
    return {"seconds": time.perf_counter() - start, "bytes": size, "tokens": tokens}


def prepared(path: str, tokenizer: str) -> dict[str, float]:
    from yuwen.data import corpus, prepare
    from yuwen.tokens import Tokenizer

    encoder = Tokenizer.load(tokenizer)
    with tempfile.TemporaryDirectory(dir=Path(path).parent) as folder:
        start = time.perf_counter()
        shards = prepare(corpus(path), encoder, out=Path(folder) / "shards")
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "bytes": shards.bytes, "tokens": len(shards), **shards.meta.dropped}


def measured(mode: str, path: str, tokenizer: str) -> dict[str, float]:
    """Runs one side in a process of its own and watches the memory of all it starts."""
    command = [sys.executable, __file__, path, "--tokenizer", tokenizer, "--mode", mode]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, memory_in_use(process.pid))
        time.sleep(0.2)
    assert process.stdout
    return {**json.loads(process.stdout.read()), "peak_memory_bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--mode", choices=["raw", "prepare"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.mode:
        result = {"raw": raw, "prepare": prepared}[given.mode](given.corpus, given.tokenizer)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        print(json.dumps({**result, "cpu_seconds": sum(usage.ru_utime + usage.ru_stime for usage in used)}))
        return
    sides: dict[str, list[dict[str, float]]] = {"raw": [], "prepare": []}
    load = os.getloadavg()[0]
    for _ in range(given.rounds):
        for mode, results in sides.items():
            results.append(measured(mode, given.corpus, given.tokenizer))
            print(mode, results[-1], file=sys.stderr)
    size = sides["raw"][0]["bytes"]
    seconds = {mode: [result["seconds"] for result in results] for mode, results in sides.items()}
    cpu = {mode: [result["cpu_seconds"] for result in results] for mode, results in sides.items()}
    report = {
        "bytes": size,
        "cores": os.cpu_count(),
        "load_before": load,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "raw_megabytes_per_second": size / statistics.median(seconds["raw"]) / 1e6,
        "prepare_megabytes_per_second": size / statistics.median(seconds["prepare"]) / 1e6,
        "ratio": statistics.median(a / b for a, b in zip(seconds["raw"], seconds["prepare"], strict=True)),
        "cpu_ratio": statistics.median(a / b for a, b in zip(cpu["raw"], cpu["prepare"], strict=True)),
        "peak_memory_bytes": max(result["peak_memory_bytes"] for result in sides["prepare"]),
        "raw_peak_memory_bytes": max(result["peak_memory_bytes"] for result in sides["raw"]),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
