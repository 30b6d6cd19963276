"""Counting n-grams beside a plain-Python Kneser-Ney: the same bits per byte, how much sooner, and 1 GB in what memory.

    python benchmarks/ngram.py [zh-news] [wikitext-2] [memory] [--rounds 3] [--shared ../shared] [--corpus TEXT]

- zh-news, wikitext-2: 5-grams of characters by `kneser_ney.py` of the shared folder, and by yuwen with the same
  estimator (one discount of 0.8) and with the modified one, by turns in processes of their own. Seconds are from the
  first byte read to the last bit counted, after the imports; the peer's own xz comparison is left out of them. The
  vocabulary is the peer's (characters of the training text, one unknown, one more), and so is what an unknown costs.
  Each side runs twice at its turn and the second is taken: on a virtual machine the first pays for getting back the
  memory that the side before it gave away.
- memory: `yuwen train recipes/ngram-char.yaml` on 1 GB of text: --corpus, or one that is made here from installed
  samples, each line with a piece of another spliced in, so that n-grams keep coming that were not there before. Memory
  is the sum over its processes of the proportional set size, mapped files included.

Results go to benchmarks/results/ngram.json; parts that were not asked for stay as they are. All three take about 25
minutes on two cores, most of it the peer and the 1 GB.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memory_in_use import memory_in_use

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ngram.json"
PARTS = ("zh-news", "wikitext-2", "memory")
ORDER, DISCOUNT = 5, 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=PARTS, metavar="PART")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--corpus", type=Path, help="text to count instead of one that is made here")
    parser.add_argument("--megabytes", type=int, default=1000, help="of the text that is made here")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        name, peer, train, valid = given.side
        found = theirs(peer, train, valid) if name == "peer" else ours(Path(train), Path(valid), name)
        print(json.dumps(found))
        return
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(dir=given.corpus.parent if given.corpus else None) as folder:
        for part in given.parts:
            if part == "memory":
                found = memory(Path(folder), given.corpus, given.megabytes)
            else:
                found = compared(*texts(part, given.shared, Path(folder)), given.shared, given.rounds)
            keep(given.out, part, found)


def keep(path: Path, part: str, found: dict[str, Any]) -> None:
    """Puts one part's results into the file."""
    import numpy
    from record import measured_on, read_result, write_result

    kept = {**found, **measured_on(), "numpy": numpy.__version__}
    write_result(path, {**read_result(path), part: kept})
    print(json.dumps({part: kept}, ensure_ascii=False), file=sys.stderr)


def texts(part: str, shared: Path, folder: Path) -> tuple[Path, Path]:
    """(training text, validation text) of a part, as files."""
    if part == "wikitext-2":
        return shared / "data/wikitext-2/train.txt", shared / "data/wikitext-2/valid.txt"
    from yuwen.data import corpus, split

    sides = split(corpus("sample:zh-news"), 0.05)
    paths = folder / "zh-train.txt", folder / "zh-valid.txt"
    for side, path, last in zip(sides, paths, ("\n", ""), strict=True):
        path.write_text("\n".join(document.text for document in side.documents()) + last, encoding="utf-8")
    return paths


def compared(train: Path, valid: Path, shared: Path, rounds: int) -> dict[str, Any]:
    """All sides by turns, each in a process of its own."""
    peer, sides = shared / "peers/kneser_ney.py", ["peer", "kneser_ney", "modified"]
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for turn in range(rounds):
        for side in sides if turn % 2 == 0 else reversed(sides):
            command = [sys.executable, __file__, "--side", side, str(peer), str(train), str(valid)]
            printed = [subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout for _ in range(2)]
            found[side].append(json.loads(printed[-1]))
            print(side, found[side][-1], file=sys.stderr)
    seconds = {side: [result["seconds"] for result in results] for side, results in found.items()}
    return {
        "order": ORDER,
        "discount": DISCOUNT,
        "training_bytes": train.stat().st_size,
        "validation_bytes": valid.stat().st_size,
        "bits_per_byte": {side: results[0]["bits_per_byte"] for side, results in found.items()},
        "seconds": seconds,
        "times_faster": {
            side: statistics.median(a / b for a, b in zip(seconds["peer"], seconds[side], strict=True))
            for side in sides[1:]
        },
    }


def theirs(peer: str, train: str, valid: str) -> dict[str, float]:
    """The peer's script, without its compression by xz."""
    import contextlib
    import io
    import lzma

    lzma.compress = lambda *_, **__: b""  # type: ignore[assignment]
    sys.argv = [peer, train, valid, str(ORDER)]
    printed = io.StringIO()
    began = time.perf_counter()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(peer)
    return {"seconds": time.perf_counter() - began, "bits_per_byte": json.loads(printed.getvalue())["bits_per_byte"]}


def ours(train: Path, valid: Path, smoothing: str) -> dict[str, float]:
    """The same task: text to characters, counts, and the bits of the validation text."""
    import numpy as np
    import torch

    from yuwen.models.ngram import NGramConfig
    from yuwen.training.counting import Column, fit

    began = time.perf_counter()
    codes, asked = (
        np.frombuffer(path.read_text(encoding="utf-8").encode("utf-32-le"), np.uint32) for path in (train, valid)
    )
    occurs = np.zeros(0x110000, bool)
    occurs[codes] = True
    characters = np.flatnonzero(occurs)
    table = np.full(0x110000, len(characters), np.uint32)  # the id after the last one is the unknown
    table[characters] = np.arange(len(characters))
    ids = table[codes]
    config = NGramConfig(vocabulary=len(characters) + 2, order=ORDER, smoothing=smoothing, discount=DISCOUNT)
    model, _ = fit(Column.of(ids), config)
    read = torch.from_numpy(np.concatenate([ids[-ORDER:], table[asked]]).astype(np.int64))
    with torch.inference_mode():
        h_TD = model(read[None])[0]
        nats = model.nats(h_TD[ORDER - 1 : -1], read[ORDER:]).sum(dtype=torch.float64).item()
    bits = nats / math.log(2) / valid.stat().st_size
    return {"seconds": time.perf_counter() - began, "bits_per_byte": bits}


def memory(folder: Path, corpus: Path | None, megabytes: int) -> dict[str, Any]:
    """The whole road on one large text, and the most memory that it took."""
    if corpus is None:
        corpus = folder / "corpus.txt"
        write_corpus(corpus, megabytes * 1_000_000)
    recipe, run = ROOT / "recipes/ngram-char.yaml", folder / "run"
    command = [sys.executable, "-m", "yuwen.cli.main", "train", str(recipe), "--out", str(run), "--json"]
    overrides = [f"data.train={corpus}", "data.valid=0.001", "data.deduplicate=false"]
    overrides += ["tokenizer.kind=char", "tokenizer.cut=script", "tokenizer.vocabulary=8192"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    began, peak = time.perf_counter(), 0
    process = subprocess.Popen([*command, *overrides], stdout=subprocess.PIPE, text=True, env=environment)
    while process.poll() is None:
        peak = max(peak, memory_in_use(process.pid))
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"training failed with {process.returncode}")
    assert process.stdout
    summary = json.loads(process.stdout.read())
    return {
        "bytes": corpus.stat().st_size,
        "tokens": summary["tokens"],
        "vocabulary": summary["tokenizer"]["size"],
        "orders": summary["model"]["orders"],
        "model_bytes": sum(path.stat().st_size for path in (run / "last").resolve().iterdir() if path.is_file()),
        "peak_memory_bytes": peak,
        "seconds": time.perf_counter() - began,
        "counting_seconds": summary["seconds"],
        "stages": summary["stages"],
    }


def write_corpus(path: Path, size: int) -> None:
    """Lines of the samples, a fragment of another line within each; the same for the same size."""
    from yuwen.text import read

    samples = ("sample:zh-news", "sample:zh-reviews", "sample:english")
    lines = [line for name in samples for document in read(name) for line in document.text.splitlines() if line]
    with path.open("w", encoding="utf-8") as file:
        for line in spliced(lines, random.Random(0)):
            size -= len(line.encode()) + 1
            if size < 0:
                return
            file.write(line + "\n")


def spliced(lines: list[str], rng: random.Random) -> Iterator[str]:
    while True:
        line, other = rng.choice(lines), rng.choice(lines)
        place, start = rng.randrange(len(line) + 1), rng.randrange(len(other))
        yield line[:place] + other[start : start + rng.randrange(20)] + line[place:]


if __name__ == "__main__":
    main()
