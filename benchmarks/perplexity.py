"""Perplexity of a published model on a text, as yuwen computes it and as transformers does: the same windows, in turn.

    python benchmarks/perplexity.py MODEL TEXT [--window 1024] [--stride 1024] [--parts 4] [--out FILE.json]

MODEL is a Hugging Face folder or a .gguf file. The text is cut into `parts` pieces of whole lines; for each, one side
scores it and then the other, so that both meet the same machine. Needs transformers, which `make install` brings, and
for .gguf files `pip install accelerate` beside it. Everything is fp32.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

import yuwen
from yuwen.evaluation import evaluate
from yuwen.evaluation.tokens import token_stream
from yuwen.evaluation.windows import windows
from yuwen.text import read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--stride", type=int, default=1024)
    parser.add_argument("--parts", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    ours = yuwen.load(asked.model)
    theirs = _published(asked.model)
    lines = asked.text.read_text(encoding="utf-8").splitlines(keepends=True)
    size = -(-len(lines) // asked.parts)
    nats, tokens, seconds = [0.0, 0.0], [0, 0], [0.0, 0.0]
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(lines), size):
            part = Path(folder) / "part.txt"
            part.write_text("".join(lines[start : start + size]), encoding="utf-8")
            sides = [_ours, _theirs] if start // size % 2 == 0 else [_theirs, _ours]
            for side in sides:
                n = (_ours, _theirs).index(side)
                scored = side((ours, theirs)[n], ours.tokenizer, part, asked)
                nats[n], tokens[n], seconds[n] = nats[n] + scored[0], tokens[n] + scored[1], seconds[n] + scored[2]
            found = {
                "model": ours.hash,
                "text": asked.text.name,
                "lines": min(start + size, len(lines)),
                "window": asked.window,
                "stride": asked.stride,
                "threads": torch.get_num_threads(),
                **{
                    name: {
                        "perplexity": math.exp(nats[n] / tokens[n]),
                        "tokens": tokens[n],
                        "seconds": round(seconds[n], 1),
                    }
                    for n, name in enumerate(("yuwen", "transformers"))
                },
                "speed_ratio": round(seconds[1] / seconds[0], 3),
            }
            text = json.dumps(found, indent=2)
            print(text, file=sys.stderr)
            if asked.out is not None:  # as far as it came: a whole test set takes most of an hour
                asked.out.write_text(text + "\n", encoding="utf-8")
    print(text)


def _published(path: Path) -> Any:
    where = {"gguf_file": path.name} if path.suffix == ".gguf" else {}
    folder = path.parent if where else path
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **where).eval()


def _ours(loaded: Any, tokenizer: Any, part: Path, asked: argparse.Namespace) -> tuple[float, int, float]:
    score = evaluate(
        loaded.model, tokenizer, read(str(part)), window=asked.window, stride=asked.stride, batch=asked.batch
    )
    return score.loss * score.tokens, score.tokens, score.seconds


def _theirs(model: Any, tokenizer: Any, part: Path, asked: argparse.Namespace) -> tuple[float, int, float]:
    """transformers' own forward pass over the same ids, batched alike; logits of the scored positions in fp32."""
    began, nats, tokens = time.perf_counter(), 0.0, 0
    group: list[Any] = []
    pending = [*windows(token_stream(read(str(part)), tokenizer), asked.window, asked.stride), None]
    for window in pending:
        ends = window is None or (group and len(group[0].ids) != len(window.ids)) or len(group) == asked.batch
        if ends and group:
            ids = torch.stack([torch.from_numpy(w.ids).long() for w in group])
            with torch.inference_mode():
                logits = model(ids).logits
            for row, w in enumerate(group):
                scored = F.cross_entropy(logits[row, w.first - 1 : -1].float(), ids[row, w.first :], reduction="sum")
                nats, tokens = nats + float(scored), tokens + len(w.ids) - w.first
            group = []
        if window is not None:
            group.append(window)
    return nats, tokens, time.perf_counter() - began


if __name__ == "__main__":
    main()
