"""An n-gram's whole road: a recipe, a run folder like any other, evaluation, text, export."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import yuwen
from yuwen.app.run.recipe import parse_recipe
from yuwen.app.run.train import train
from yuwen.cli.main import run as command
from yuwen.evaluation import evaluate
from yuwen.models.ngram import NGram
from yuwen.text import read

LINE = "the cat sees a tree and runs home over the hill 二月春风似剪刀。\n"
VALUES: dict[str, Any] = {
    "data": {"train": "text.txt", "valid": 0.2},
    "tokenizer": {"kind": "char"},
    "model": {"family": "ngram", "order": 3},
    "train": {"tensorboard": False},
    "sample": {"prompts": ["the", "二"], "tokens": 5},
}


@pytest.fixture(autouse=True)
def at_home(home: Path) -> None:
    """Works in a folder of its own, that has a corpus and a recipe."""
    Path("text.txt").write_text("".join(f"{n} {LINE}" for n in range(60)), encoding="utf-8")
    Path("ngram.yaml").write_text(yaml.safe_dump(VALUES, allow_unicode=True), encoding="utf-8")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert command([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert command(["train", "ngram.yaml", *arguments]) == 2
    out, err = capsys.readouterr()
    told = [line for line in err.splitlines() if line.startswith("yuwen: ")]
    assert out == "" and len(told) == 1 and "Traceback" not in err
    return told[0]


def test_from_text_to_a_model_that_is_measured_and_speaks(capsys: pytest.CaptureFixture[str]) -> None:
    summary, run = said(capsys, "train", "ngram.yaml"), Path("runs/ngram")
    assert {path.name for path in run.iterdir()} == {
        ".lock", "recipe.yaml", "metrics.jsonl", "samples.jsonl", "summary.json", "tokenizer",
        "checkpoint-1", "last", "best",
    }  # fmt: skip
    assert summary == json.loads((run / "summary.json").read_text(encoding="utf-8"))
    loaded = yuwen.load(run)
    assert isinstance(loaded.model, NGram) and loaded.family == "ngram" and loaded.tokenizer is not None
    assert summary["parameters"] == sum(p.numel() for p in loaded.model.parameters())
    assert [order["grams"] for order in summary["model"]["orders"]] == list(loaded.model.config.sizes)
    assert loaded.model.config.vocabulary == loaded.tokenizer.size  # every id has its part of what was never seen

    (line,) = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert (line["step"], line["tokens"]) == (1, summary["tokens"])
    found = said(capsys, "evaluate", str(run), "--data", "text.txt[80%:]")
    for name in ("valid_loss", "bits_per_byte"):
        assert line[name] == pytest.approx(found[{"valid_loss": "loss"}.get(name, name)], rel=1e-6)
    assert 0 < line["bits_per_byte"] < 1.5  # the text repeats itself
    assert line["valid_loss"] == summary["best_loss"]

    samples = [json.loads(text) for text in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [sample["prompt"] for sample in samples] == ["the", "二"]
    assert said(capsys, "generate", str(run), "二月春", "--greedy", "--max-tokens", "5")["text"] == "风似剪刀。"
    drawn = [loaded.generate("the", max_tokens=30, seed=seed).text for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_evaluation_does_not_depend_on_windows() -> None:
    train(parse_recipe(VALUES), Path("run"), quiet=True)
    loaded = yuwen.load("run")
    assert loaded.tokenizer is not None
    scores = [
        evaluate(loaded.model, loaded.tokenizer, read("text.txt"), window=window, batch=batch)
        for window, batch in [(2, 1), (7, 3), (2048, 1)]
    ]
    assert scores[0].loss == pytest.approx(scores[1].loss) == pytest.approx(scores[2].loss)
    ids = torch.tensor([loaded.tokenizer.encode(Path("text.txt").read_text(encoding="utf-8"))])
    end = torch.tensor([[loaded.tokenizer.end_id]])
    whole = torch.cat((ids, end), 1)
    log_p = loaded.logits(whole[:, :-1])[0].double().log_softmax(-1)
    nats = -log_p.gather(1, whole[0, 1:, None]).sum().item()
    assert scores[0].loss == pytest.approx(nats / (whole.shape[1] - 1), rel=1e-5)
    assert scores[0].bits_per_byte == pytest.approx(nats / math.log(2) / scores[0].bytes, rel=1e-5)


@pytest.mark.parametrize("kind", [["tokenizer.kind=word"], ["tokenizer.kind=bpe", "tokenizer.vocabulary=300"]])
def test_words_and_pieces_are_counted_as_characters_are(kind: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    summary = said(capsys, "train", "ngram.yaml", *kind, "model.order=2", "model.smoothing=kneser_ney")
    assert summary["tokenizer"]["kind"] == kind[0].partition("=")[2]
    assert [order["discounts"] for order in summary["model"]["orders"]] == [[0.8] * 3] * 2
    (line,) = Path("runs/ngram/metrics.jsonl").read_text().splitlines()
    assert ("bits_per_byte" in json.loads(line)) == (kind == ["tokenizer.kind=bpe", "tokenizer.vocabulary=300"])


def test_an_exported_folder_is_the_same_model(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "train", "ngram.yaml")
    assert command(["export", "runs/ngram", "--to", "hf", "out"]) == 0
    one, other = yuwen.load("runs/ngram"), yuwen.load("out")
    assert one.hash == other.hash
    assert torch.equal(one.logits([3, 5, 7, 9]), other.logits([3, 5, 7, 9]))


def test_what_takes_vectors_or_steps_says_that_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "train", "ngram.yaml")
    for arguments, message in [
        (["apply", "embed", "runs/ngram", "the cat"], "a ngram looks counts up and has no vectors"),
        (["export", "runs/ngram", "--to", "gguf", "out.gguf"], "ngram cannot be written as GGUF"),
    ]:
        assert command(arguments) == 2
        assert message in capsys.readouterr().err


def test_a_finished_count_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    first = said(capsys, "train", "ngram.yaml")
    before = {path: path.read_bytes() for path in Path("runs/ngram").rglob("*") if path.is_file()}
    assert command(["train", "ngram.yaml", "--resume", "auto", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "is finished" in err
    again = json.loads(out)
    assert {**again, "stages": {}} == {**first, "stages": {}}
    assert before == {path: path.read_bytes() for path in Path("runs/ngram").rglob("*") if path.is_file()}
    assert "model.order=4 differs from the run's own 3" in refused(capsys, "--resume", "auto", "model.order=4")


def test_a_prompt_that_cannot_be_read_is_told_before_anything_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, f"sample.prompts=['{'the ' * 100}']", "model.context=256")
    assert told.startswith("yuwen: sample.prompts: 'the the the the the ': ")
    assert not Path("runs/ngram/metrics.jsonl").exists()


def test_a_count_goes_with_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "train", "ngram.yaml")
    with Path("text.txt").open("a") as file:
        file.write("one more chapter\n")
    assert "the text has changed since it was counted: choose another --out" in refused(capsys, "--resume", "auto")


def test_a_count_that_finds_no_memory_says_what_makes_it_smaller(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*given: Any) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("yuwen.training.counting.fit", full)
    assert refused(capsys) == "yuwen: out of memory: choose a smaller model.order, or less text"


def test_counts_are_not_rounded(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "train", "ngram.yaml")
    for line in (["evaluate", "runs/ngram", "--data", "text.txt"], ["export", "runs/ngram", "out"]):
        assert command([*line, "--dtype", "bfloat16"]) == 2
        assert "runs/ngram was counted" in capsys.readouterr().err


def test_large_texts_are_counted_in_files_that_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse_recipe(VALUES)
    train(recipe, Path("memory"), quiet=True)
    monkeypatch.setattr("yuwen.app.run.count._IN_MEMORY", 10)
    seen = []
    fit = yuwen.training.counting.fit
    monkeypatch.setattr("yuwen.training.counting.fit", lambda *given: seen.append(given[2].folder) or fit(*given))
    train(recipe, Path("files"), quiet=True)
    assert seen == [Path("files/.counting")] and not seen[0].exists()
    one, other = (Path(run, "last/model.safetensors").read_bytes() for run in ("memory", "files"))
    assert one == other


def test_a_killed_count_begins_again(tmp_path: Path) -> None:
    """Killed when it has counted and not yet written: what lies about is no part of the next count."""
    code = (
        "import sys, time\n"
        "import yuwen.app.run.count as count\n"
        "count._IN_MEMORY = 10\n"
        "count._measured = lambda *given: (print('here', flush=True), time.sleep(60))\n"
        "from yuwen.cli.main import run\n"
        "run(['train', 'ngram.yaml'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"here\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    left = Path("runs/ngram/.counting")
    assert any(left.iterdir()) and not Path("runs/ngram/last").exists()
    (left / "stray").write_text("not ours")
    train(parse_recipe(VALUES), Path("runs/ngram"), resume="auto", quiet=True)
    assert not left.exists()
    assert len(Path("runs/ngram/metrics.jsonl").read_text().splitlines()) == 1
    train(parse_recipe(VALUES), Path("fresh"), quiet=True)
    one, other = (Path(run, "last/model.safetensors").read_bytes() for run in ("runs/ngram", "fresh"))
    assert one == other


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer.lr=0.1", "optimizer.lr=0.1: a count takes one pass and would ignore it: leave it out"),
        ("schedule.warmup=7", "schedule.warmup=7.0: a count takes one pass"),
        ("train.minutes=3", "train.minutes=3.0: a count takes one pass"),
        ("train.steps=3", "train.steps=3: a count takes one pass"),
        ("train.seed=3", "train.seed=3: a count takes one pass"),
        ("data.fields={text: a, label: b}", "objective.name='classify': a count takes one pass and would ignore it"),
        ("data.order=stream", "data.order='stream': a count takes one pass and would ignore it"),
        ("data.length=64", "data.length=64: a count takes one pass"),
        ("model.layers=2", "unknown key model.layers"),
        ("model.order=0", "model.order=0: input should be greater than 0"),
        ("model.sizes=[3, 3, 3]", "sizes"),
        ("model.vocabulary=9", "model.vocabulary=9 is smaller than the tokenizer's"),
        ("model.order=32", "tokens are fewer than model.order=32"),
    ],
)
def test_what_counting_would_ignore_is_refused(change: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    if change == "model.order=32":  # found when the text has been read
        Path("text.txt").write_text("few words\n", encoding="utf-8")
    assert message in refused(capsys, change)
    assert not Path("runs/ngram/last").exists()


def test_the_resolved_recipe_is_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, "train", "ngram.yaml")
    said(capsys, "train", "runs/ngram/recipe.yaml", "--out", "again")
    one, other = (Path(run, "last/model.safetensors").read_bytes() for run in ("runs/ngram", "again"))
    assert one == other
