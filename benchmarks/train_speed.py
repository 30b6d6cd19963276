"""Training speed of every attention family against the transformers model of the same shape, in turn.

    python benchmarks/train_speed.py [--families bert,t5] [--skip t5] [--peers eager,compiled] [--out FILE.json]

Both sides get one batch of random ids and the family's own task: the next token; 15 % hidden words; one token in six in
a permuted order; a target from a source (`yuwen bench train`). A step is forward, loss, backward, clipping and AdamW,
in bf16: theirs under autocast with fused AdamW, as it is or under torch.compile; ours through the loop of yuwen train.
Each side is a process of its own, all on this machine's every core; they work in turn, a few steps at a time, and a
ratio is taken within each round. Rows of families that are not asked for stay in the file as they are.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing as mp
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FAMILIES = (
    *("gpt2", "palm", "llama", "qwen2", "qwen3", "gemma3"),
    *("bert", "roberta", "albert", "distilbert", "xlnet", "t5", "bart", "transformer"),
)
SHAPE = ("layers", "width", "heads", "ffn", "vocabulary")
_WARM = 3  # steps that compile, and fill the allocator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--skip", default="")
    parser.add_argument("--peers", default="eager", help="eager, compiled, or both")
    for name, value in zip(SHAPE, (6, 384, 6, None, 8192), strict=True):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each side in a round")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/train-speed.json"))
    asked = parser.parse_args()
    families = [name for name in asked.families.split(",") if name not in asked.skip.split(",")]
    unknown = set(families) - set(FAMILIES)
    if unknown:
        parser.error(f"no such family: {', '.join(sorted(unknown))} (known: {', '.join(FAMILIES)})")
    shape = {name: getattr(asked, name) for name in SHAPE if getattr(asked, name) is not None}
    for name in families:
        row = _compared(name, shape, asked)
        print(json.dumps(row), flush=True)
        _keep(asked.out, name, row, {**shape, "batch": asked.batch, "length": asked.length})


def _compared(name: str, shape: dict[str, int], asked: argparse.Namespace) -> dict[str, Any]:
    context = mp.get_context("spawn")
    sides: dict[str, tuple[Any, Any]] = {}
    for side in ("yuwen", *asked.peers.split(",")):
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, side, name, shape, asked.batch, asked.length))
        process.start()
        sides[side] = process, ours
    try:
        facts = {side: pipe.recv() for side, (_, pipe) in sides.items()}
        for _, pipe in sides.values():  # one after another here too
            _seconds(pipe, _WARM)
        rounds = []
        for _ in range(asked.rounds):
            # the first step of a turn finds cold caches, and the other side's threads still spinning
            turn = {side: _seconds(pipe, 1 + asked.steps)[1:] for side, (_, pipe) in sides.items()}
            rounds.append({side: statistics.median(seconds) for side, seconds in turn.items()})
            print(name, {side: round(seconds, 3) for side, seconds in rounds[-1].items()}, file=sys.stderr, flush=True)
    finally:
        for process, pipe in sides.values():
            pipe.close()
            process.join(10)
            if process.is_alive():
                process.terminate()
    tokens = facts["yuwen"]["tokens"]
    row: dict[str, Any] = {"family": name, "objective": facts["yuwen"]["objective"], "tokens_per_step": tokens}
    for side, fact in facts.items():
        seconds = statistics.median(turn[side] for turn in rounds)
        row[side] = {"parameters": fact["parameters"], "tokens_per_second": round(tokens / seconds, 1)}
    for side in asked.peers.split(","):
        ratios = sorted(turn[side] / turn["yuwen"] for turn in rounds)
        row[side]["ratio"] = round(statistics.median(ratios), 3)
        row[side]["ratios"] = [round(ratio, 3) for ratio in ratios]
    return row


def _keep(path: Path, name: str, row: dict[str, Any], settings: Mapping[str, int]) -> None:
    """Puts a row into the file, in place of an earlier one of the same family."""
    import transformers
    from record import measured_on, read_result, write_result

    on = {**measured_on(), "transformers": transformers.__version__}  # apart: both it and the row tell of "yuwen"
    kept = {**row, "shape": dict(settings), "measured_on": on}
    rows = {**read_result(path).get("rows", {}), name: kept}
    write_result(path, {"rows": {family: rows[family] for family in FAMILIES if family in rows}})


def _seconds(pipe: Any, steps: int) -> list[float]:
    """Seconds of each of so many steps of one side, while the others wait."""
    pipe.send(steps)
    taken: list[float] = pipe.recv()
    return taken


def _work(pipe: Any, side: str, name: str, shape: dict[str, int], batch: int, length: int) -> None:
    """One side: says what it is, then takes as many steps as it is told to."""
    from yuwen.app.bench_train import exercise

    found = exercise(name, shape, batch=batch, length=length)
    model, step = _ours(found) if side == "yuwen" else _theirs(found, compiled=side == "compiled")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    pipe.send({"objective": found.task, "tokens": found.batch.tokens, "parameters": parameters})
    while True:
        try:
            steps = pipe.recv()
        except EOFError:
            return
        seconds = []
        for _ in range(steps):
            began = time.perf_counter()
            loss = step()
            seconds.append(time.perf_counter() - began)
            assert math.isfinite(loss)
        pipe.send(seconds)


def _ours(found: Any) -> tuple[Any, Callable[[], float]]:
    import torch

    from yuwen.training import Learner, OptimizerConfig
    from yuwen.training.memory import keep_freed_memory

    keep_freed_memory()
    settings = OptimizerConfig.parse("optimizer", {"name": "adamw", "lr": 3e-4})
    learner = Learner(found.model, found.objective, settings, dtype=torch.bfloat16, compile=True)
    return found.model, lambda: learner.step([found.batch], 1.0).loss


def _theirs(found: Any, *, compiled: bool) -> tuple[Any, Callable[[], float]]:
    import torch

    model, inputs = published(found), task(found)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16):
            loss = run(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return model, step


def published(found: Any) -> Any:
    """The class of transformers with our settings, and without dropout, as ours; for PaLM, which it has not, the one
    with the same block: Cohere's (tests/models/test_palm.py)."""
    import torch
    import transformers

    torch.manual_seed(0)
    values, architecture = found.config.published(), found.config.architecture
    if values["model_type"] == "palm":
        values |= {"model_type": "cohere", "logit_scale": found.config.width**-0.5}
        architecture = "CohereForCausalLM"
    config = transformers.AutoConfig.for_model(**values)
    for name in config.to_dict():
        if "drop" in name:  # attention_dropout, resid_pdrop, encoder_layerdrop …
            setattr(config, name, 0.0)
    if found.config.reads == "pairs":
        config.pad_token_id = config.decoder_start_token_id = found.config.start
    return getattr(transformers, architecture)(config).train()


def task(found: Any) -> dict[str, Any]:
    """Our batch as transformers takes it: the same inputs, the same targets."""
    import torch

    held, reads = found.batch.tensors, found.config.reads
    if reads == "forwards":
        return {"input_ids": held["ids"], "labels": held["ids"]}  # they are shifted within
    if reads == "pairs":
        return {"input_ids": held["source"], "labels": held["targets"]}
    if reads == "both":
        (B, T), rows = held["ids"].shape, torch.arange(len(held["ids"]))[:, None]
        labels = torch.full((B, T), -100)
        labels[rows, held["places"]] = held["targets"]
        return {"input_ids": held["ids"], "labels": labels}
    order = held["order"]
    known = (order[:, :, None] == 0) & (order[:, None] == 0)  # what is known from the start
    seen = (order[:, None] < order[:, :, None]) | known
    mapping = torch.zeros(*held["places"].shape, order.shape[1]).scatter_(2, held["places"][..., None], 1.0)
    return {
        "input_ids": held["ids"],
        "perm_mask": (~seen).float(),
        "target_mapping": mapping,
        "labels": held["targets"],
    }


if __name__ == "__main__":
    main()
