"""Too large is told before anything is allocated, and the mend works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_runs import recipe

from yuwen.app.machine import resources
from yuwen.app.run.memory import out_of_memory
from yuwen.app.run.recipe import parse_recipe
from yuwen.app.run.train import train
from yuwen.errors import UserError
from yuwen.models import parse_config
from yuwen.training import Learner
from yuwen.training.memory import activations_bytes, fitting_tokens, smaller_micro_batches, weights_bytes

CONFIG = parse_config("qwen3", {"vocabulary": 64, "context": 16, "layers": 2, "width": 32, "heads": 2, "ffn": 64})


def test_a_petabyte_is_refused_before_it_is_built(tmp_path: Path) -> None:
    huge = ("model.width=1048576", "model.heads=1024", "model.layers=24", "model.ffn=4194304")
    with pytest.raises(UserError, match=r"needs about \d{6,}\.\d GiB .* are free: choose a smaller model.width"):
        train(recipe(tmp_path, *huge), tmp_path / "run", quiet=True)


def test_the_mend_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = ("train.batch_tokens=3072", "train.micro_tokens=0", "train.steps=2")
    fixed = weights_bytes(22_752, 4, "muon")
    room = fixed + activations_bytes(CONFIG, 1024, 16, 4)
    monkeypatch.setattr(resources, "memory", lambda: (1 << 40, room))
    with pytest.raises(UserError, match=r"set train\.micro_tokens=\d+$") as told:
        train(recipe(tmp_path, *big), tmp_path / "run", quiet=True)
    mend = re.search(r"train\.micro_tokens=\d+", str(told.value))
    assert mend is not None and mend[0] == "train.micro_tokens=1024"
    assert train(recipe(tmp_path, *big, mend[0]), tmp_path / "run", quiet=True).steps == 2


def test_processes_of_one_machine_share_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = weights_bytes(22_752, 4, "muon") + activations_bytes(CONFIG, 1024, 16, 4)
    monkeypatch.setattr(resources, "memory", lambda: (1 << 40, 2 * room - 1))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    some = recipe(tmp_path, "train.batch_tokens=1024", "train.micro_tokens=0", "train.steps=1")
    with pytest.raises(UserError, match="GiB are free"):
        train(some, tmp_path / "run", quiet=True)


def test_a_model_to_begin_from_is_asked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(recipe(tmp_path, "train.steps=1"), tmp_path / "first", quiet=True)
    monkeypatch.setattr(resources, "memory", lambda: (1 << 40, 1 << 20))
    values = recipe(tmp_path, "train.steps=1").plain()
    model = {"from": str(tmp_path / "first"), "dropout": 0.1}
    second = parse_recipe({**values, "model": model, "tokenizer": {"from": model["from"]}})
    with pytest.raises(UserError, match="and 0.0 GiB are free"):
        train(second, tmp_path / "second", quiet=True)


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 1 << 28))
def test_what_fits_divides_the_batch(windows: int, length: int, free: int) -> None:
    share = windows * length
    tokens = fitting_tokens(CONFIG, share, length, 4, free)
    sizes = smaller_micro_batches(share, length)
    assert all(share % size == 0 and size % length == 0 for size in sizes)
    assert sizes == sorted(set(sizes), reverse=True)
    if tokens:
        assert tokens in sizes and activations_bytes(CONFIG, tokens, length, 4) <= free
    else:
        assert activations_bytes(CONFIG, length, length, 4) > free


def test_a_decoder_alone_keeps_nothing_of_an_encoder() -> None:
    shape = {"vocabulary": 64, "context": 16, "layers": 4, "width": 32, "heads": 2, "ffn": 64}
    alone, both = (parse_config("transformer", {**shape, "encoder_layers": n}).kept(16) for n in (0, 4))
    assert alone == parse_config("gpt2", shape).kept(16)
    assert both > 2 * alone


def test_out_of_memory_names_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Learner, batches: object, factor: float) -> None:
        torch.empty(1 << 50)  # a petabyte: what PyTorch really says

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(UserError, match=r"^out of memory: set train\.micro_tokens=64 \(now 128\)$"):
        train(recipe(tmp_path), tmp_path / "run", quiet=True)
    monkeypatch.undo()
    train(recipe(tmp_path, "train.micro_tokens=64"), tmp_path / "run", resume="auto", quiet=True)
    monkeypatch.setattr(Learner, "step", step)
    begun = recipe(tmp_path, f"model={{from: {tmp_path / 'run'}}}", "tokenizer={}")  # whose objective is the model's
    with pytest.raises(UserError, match=r"^out of memory: set train\.micro_tokens=64 \(now 128\)$"):
        train(begun, tmp_path / "next", quiet=True)


def test_out_of_memory_without_a_smaller_batch(tmp_path: Path) -> None:
    smallest = recipe(tmp_path, "train.micro_tokens=16")
    assert "choose a smaller model" in str(out_of_memory(MemoryError(), smallest, 1))
    thirds = recipe(tmp_path, "train.batch_tokens=144", "train.micro_tokens=0")  # nine windows: no halves
    assert "train.micro_tokens=48 (now 144)" in str(out_of_memory(MemoryError(), thirds, 1))
    assert out_of_memory(RuntimeError("shapes differ"), smallest, 1) is None
    unsettled = parse_recipe({"data": {"train": "x"}, "model": {"from": "y"}, "train": {"steps": 1}})
    assert "choose a smaller model" in str(out_of_memory(MemoryError(), unsettled, 1))
