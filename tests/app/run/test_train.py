"""yuwen train: what a person types, and every mistake as one line and exit status 2."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

import yuwen
from yuwen.app.run import feed, speak
from yuwen.app.run.recipe import parse_recipe
from yuwen.app.run.train import train
from yuwen.cli.main import run as command
from yuwen.data import prepare
from yuwen.errors import UserError
from yuwen.tokens import TokenizerConfig
from yuwen.tokens import train as train_tokenizer
from yuwen.training import Processes
from yuwen.training.logging import cut_back, read_metrics

LINE = "the cat sees a tree and runs home over the hill 二月春风似剪刀。\n"
VALUES: dict[str, Any] = {
    "data": {"valid": 0.2, "length": 16},
    "tokenizer": {"kind": "char"},
    "model": {"layers": 1, "width": 16, "heads": 2, "ffn": 32},
    "train": {
        "steps": 3,
        "batch_tokens": 64,
        "log_every": 1,
        "precision": "float32",
        "compile": "off",
        "tensorboard": False,
    },
    "sample": {"prompts": ["the"], "tokens": 5},
}


@pytest.fixture(autouse=True)
def at_home(home: Path) -> None:
    """Works in a folder of its own, that has a corpus and a recipe."""
    Path("text.txt").write_text("".join(f"{n} {LINE}" for n in range(60)), encoding="utf-8")
    Path("small.yaml").write_text(yaml.safe_dump({**VALUES, "data": {**VALUES["data"], "train": "text.txt"}}))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that must be refused, and that leaves no checkpoint and nothing on stdout."""
    assert command(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    told = [line for line in err.splitlines() if line.startswith("yuwen: ")]
    assert len(told) == 1 and err.endswith(told[0] + "\n")
    assert "Traceback" not in err
    return told[0]


def test_held_out_text_shorter_than_a_window_is_told_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    encoder = ["model={family: bert, layers: 1, width: 16, heads: 2}", "objective.name=masked", "data.length=32"]
    few = ["data.valid=0.005", "train.batch_tokens=64"]
    told = refused(capsys, "small.yaml", "--out", "run", *encoder, *few)
    assert "data.valid holds out" in told and "fewer than one window of data.length + 1 = 33" in told


def test_a_prompt_that_cannot_be_read_is_told_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    long = f"sample.prompts=['{'the hill ' * 4}']"
    for family, said in (("qwen3", "the model's context 16"), ("bert", "longer than the 16 tokens"), ("t5", None)):
        shape = [f"model={{family: {family}, layers: 1, width: 16, heads: 2}}"]
        if said is None:  # distances have no end
            assert command(["train", "small.yaml", "--out", "t5", *shape, long, "tokenizer.kind=bpe"]) == 0
            capsys.readouterr()
        else:
            told = refused(capsys, "small.yaml", *shape, long)
            assert "sample.prompts: 'the hill the hill th'" in told and said in told
            assert not list(Path("runs/small").glob("metrics.jsonl"))


def test_what_a_run_logs_is_what_evaluate_finds(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["train", "small.yaml"]) == 0
    capsys.readouterr()
    windows = ["--window", "16", "--stride", "15", "--json"]  # as a run looks at them: they share one token
    assert command(["evaluate", "runs/small/last", "--data", "text.txt[80%:]", *windows]) == 0
    found, last = json.loads(capsys.readouterr().out), read_metrics(Path("runs/small/metrics.jsonl"))[-1]
    assert last["valid_loss"] == pytest.approx(found["loss"], abs=1e-5)
    assert last["bits_per_byte"] == pytest.approx(found["bits_per_byte"], abs=1e-5)


def dropped(capsys: pytest.CaptureFixture[str], *overrides: str) -> dict[str, int]:
    """What a run over rows.jsonl leaves out of what it learns from."""
    capsys.readouterr()
    assert (
        command(["train", "small.yaml", "--out", f"run{overrides}", "--json", "data.train=rows.jsonl", *overrides]) == 0
    )
    found: dict[str, int] = json.loads(capsys.readouterr().out)["data"]["dropped"]
    return found


@pytest.mark.parametrize("rows", [(), ("data.fields={text: text, label: label}",)], ids=["text", "rows"])
def test_what_is_held_out_or_refused_is_not_learnt(rows: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"text": f"{n} {LINE.strip()}", "label": "ab"[n % 2]} for n in range(60)]
    lines[:3] = lines[-3:]  # also in what is held out
    lines[7] = lines[5]
    lines[9] = {"text": "short", "label": "a"}
    Path("rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert dropped(capsys, *rows) == {"also in validation": 3, "duplicate": 1}
    assert dropped(capsys, *rows, "data.deduplicate=false") == {"also in validation": 3}
    long = "data.text.minimum_characters=20"
    assert dropped(capsys, *rows, long) == {"also in validation": 3, "duplicate": 1, "too short": 1}


def test_a_text_with_breaks_of_its_own_is_one_line() -> None:
    lines = [{"step": step, "prompt": "a", "text": f"{step}\u2028b\x85c"} for step in (1, 2, 3)]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    Path("samples.jsonl").write_text(text + '{"step": 4, "te', encoding="utf-8")
    assert read_metrics(Path("samples.jsonl")) == lines
    cut_back(Path("samples.jsonl"), 2)
    assert read_metrics(Path("samples.jsonl")) == lines[:2]


def test_from_text_to_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["train", "small.yaml", "--json", "train.steps=4"]) == 0
    summary = json.loads(capsys.readouterr().out)
    run = Path("runs/small")
    assert summary == json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert (summary["run"], summary["steps"], summary["tokens"]) == (str(run), 4, 256)
    assert summary["data"]["tokens"] > summary["data"]["documents"] > 0
    names = {path.name for path in run.iterdir()}
    assert names == {
        ".lock", "recipe.yaml", "metrics.jsonl", "samples.jsonl", "summary.json", "tokenizer",
        "checkpoint-4", "last", "best",
    }  # fmt: skip
    loaded = yuwen.load(run)
    assert loaded.model.config.layers == 1 and loaded.tokenizer is not None
    assert command(["train", "small.yaml", "train.steps=4", "--resume", "auto"]) == 0
    assert "runs/small: 4 steps" in capsys.readouterr().out


@pytest.mark.parametrize(
    "more",
    [
        ["model.family=gemma3", "model.layers=2", "model.global_every=2", "model.window=5"],
        ["model.family=qwen2", "model.rope_scaling.kind=linear", "model.rope_scaling.factor=2"],
    ],
)
def test_a_recipe_names_any_decoder(more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["train", "small.yaml", "--json", *more]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 3
    loaded = yuwen.load("runs/small")
    assert f"model.family={loaded.family}" == more[0]
    assert loaded.generate("the cat", max_tokens=9).ids


def test_a_run_starts_from_a_model(tmp_path: Path) -> None:
    first = parse_recipe(yaml.safe_load(Path("small.yaml").read_text()))
    train(first, tmp_path / "first", quiet=True)
    values = yaml.safe_load(Path("small.yaml").read_text()) | {
        "model": {"from": str(tmp_path / "first"), "dropout": 0.1}
    }
    del values["tokenizer"]
    train(parse_recipe(values), tmp_path / "second", quiet=True)
    start = json.loads((tmp_path / "second" / "metrics.jsonl").read_text().splitlines()[0])
    end = json.loads((tmp_path / "first" / "metrics.jsonl").read_text().splitlines()[-1])
    assert start["valid_loss"] == pytest.approx(end["valid_loss"], abs=1e-6)
    values["model"]["width"] = 32
    with pytest.raises(UserError, match=r"model\.width=32: the model that model\.from names has another"):
        train(parse_recipe(values), tmp_path / "third", quiet=True)


def test_another_model_s_objective_is_settled_before_any_text_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A BERT goes on by its own objective or by one that fits; one that does not is refused at once."""
    assert command(["train", "small.yaml", "--out", "bert", "model.family=bert"]) == 0
    values = yaml.safe_load(Path("small.yaml").read_text()) | {"model": {"from": "bert", "dropout": 0.1}}
    values["tokenizer"] = {"from": "bert"}
    Path("more.yaml").write_text(yaml.safe_dump(values))
    assert command(["train", "more.yaml", "--out", "own", "train.checkpoint_every=2"]) == 0
    assert command(["train", "more.yaml", "--out", "own", "--resume", "auto", "train.steps=4"]) == 0
    assert "name: next_sentence" in Path("own/recipe.yaml").read_text()
    assert command(["train", "more.yaml", "--out", "words", "objective.name=masked"]) == 0
    start = json.loads((Path("words") / "metrics.jsonl").read_text().splitlines()[0])
    assert start["valid_loss"] < 10
    capsys.readouterr()
    told = refused(capsys, "more.yaml", "--out", "new", "objective.name=causal", "data.train=missing.txt")
    assert told.startswith("yuwen: objective.name=causal cannot train model.family=bert, which reads from both sides")
    told = refused(capsys, "more.yaml", "--out", "new", "data.length=32", "train.batch_tokens=64")
    assert told == "yuwen: data.length=32 is more than the 16 tokens that this model reads at once"


def test_samples_that_a_model_cannot_write_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    more = ["data.train=rows.jsonl", "data.fields.text=text", "data.fields.label=label", "train.sample_every=1"]
    rows = [{"text": f"{n} a cat", "label": "even" if n % 2 else "odd"} for n in range(40)]
    Path("rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert command(["train", "small.yaml", *more]) == 0
    assert capsys.readouterr().err.count("that learns by classify writes nothing: no samples") == 1
    assert not Path("runs/small/samples.jsonl").exists()


def test_on_and_off_are_words_here() -> None:
    recipe = parse_recipe(yaml.safe_load("{data: {train: a}, train: {steps: 1, compile: off}}"))
    assert recipe.train.compile == "off"


OVERRIDES = {
    "train.step=5": "unknown key train.step: did you mean steps?",
    "optimizer.lr=fast": "optimizer.lr='fast'",
    "model.heads=3": "width=16 must be a multiple of heads=3",
    "train.steps=0": "give steps or minutes",
    "train.batch_tokens=65": "must be a multiple of data.length=16",
    "train.minutes=1": "give steps or minutes, not both",
    "data.train=missing.txt": "missing.txt",
    "data.valid=missing.txt": "missing.txt",
    "data.length=100000 train.batch_tokens=100000 data.valid=0": "fewer than one window of data.length + 1 = 100001",
    "tokenizer.vocabulary=100 tokenizer.kind=bpe": "give at least 259",
    "model.vocabulary=8": "model.vocabulary=8 is smaller than the tokenizer's",
    "model.from=nowhere": "nowhere",
    'tokenizer={"from":"nowhere"}': "nowhere",
    "data.encoding=klingon": "klingon",
}


@pytest.mark.parametrize("overrides", OVERRIDES, ids=str)
def test_settings_that_cannot_be(overrides: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert OVERRIDES[overrides] in refused(capsys, "small.yaml", *overrides.split(" "))


def test_what_no_memory_holds_is_told_before_any_text_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    for huge in (f"train.batch_tokens={1 << 44}", "model={layers: 1000, width: 16384, heads: 128, ffn: 65536}"):
        assert "GiB are free: " in refused(capsys, "small.yaml", "data.train=missing.txt", huge)


def test_what_processes_cannot_share_is_told_before_any_text_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = ["small.yaml", "data.train=missing.txt"]
    monkeypatch.setattr(Processes, "from_environment", lambda: Processes(0, 3))
    assert "64 cannot be shared by 3 processes" in refused(capsys, *absent)
    monkeypatch.setattr(Processes, "from_environment", lambda: Processes(0, 2))
    bert = ["model={family: bert, layers: 1, width: 16, heads: 2}", "data.length=32"]
    assert "set train.batch_tokens to 128 at least" in refused(capsys, *absent, *bert)
    odd = ["data.length=32", "train.batch_tokens=96"]  # 48 tokens each, but a window and a half
    assert "a batch of 3 windows cannot be shared by 2 processes" in refused(capsys, *absent, *odd)
    Path("counts.yaml").write_text(yaml.safe_dump({"data": {"train": "missing.txt"}, "model": {"family": "ngram"}}))
    assert "start it without torchrun" in refused(capsys, "counts.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "text.txt"),
        (b"   \n\n", ""),
        (bytes(range(256)) * 20, "text.txt"),
        ("春风".encode() * 100 + b"\nab\xff\xfe" + b"cd" * 50, "text.txt:2"),
        (b"x", ""),
    ],
    ids=["empty", "blank", "binary", "broken", "one letter"],
)
def test_text_that_is_none(content: bytes, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.txt").write_bytes(content)
    assert message in refused(capsys, "small.yaml")
    assert not list(Path("runs").glob("*/checkpoint-*"))


def test_recipes_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nothing.yaml: No such file or directory" in refused(capsys, "nothing.yaml")
    assert "Is a directory" in refused(capsys, ".")
    Path("broken.yaml").write_text("data: [")
    assert "broken.yaml:1: not YAML" in refused(capsys, "broken.yaml")


def test_folders_that_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    mine = Path("small.yaml").read_text()
    assert "exists already and is not a run" in refused(capsys, "small.yaml", "--out", ".")
    assert "exists already and is not a run" in refused(capsys, "small.yaml", "--out", "text.txt")
    assert Path("small.yaml").read_text() == mine
    assert command(["train", "small.yaml", "--out", "run"]) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert "run holds a run already: add --resume auto" in refused(capsys, "small.yaml", "--out", "run")
    assert "--resume elsewhere: give a checkpoint-N folder" in refused(
        capsys, "small.yaml", "--out", "run", "--resume", "elsewhere"
    )
    assert "model.width=32 differs from the run's own 16" in refused(
        capsys, "small.yaml", "--out", "run", "--resume", "auto", "model.width=32"
    )
    assert before == {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}


def test_one_process_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    from yuwen.app.run.folder import claim

    with claim(Path("run")):
        assert "another process is training into this folder" in refused(capsys, "small.yaml", "--out", "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    told = refused(capsys, "small.yaml", "--out", "closed/run")
    assert told == "yuwen: closed/run: Permission denied: check its permissions or choose another path"


def test_a_segmenters_words_reach_what_is_learnt_and_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(*arguments: Any, **settings: Any) -> Any:
        asked.append(settings["words"])
        return prepare(*arguments, **settings)

    monkeypatch.setattr(feed, "prepare", noted)
    model = {"family": "bert", "layers": 1, "width": 16, "heads": 2}
    objective = {"name": "masked", "whole_words": True}
    data = {**VALUES["data"], "train": "text.txt", "words": "jieba"}
    train(parse_recipe({**VALUES, "data": data, "model": model, "objective": objective}), Path("run"), quiet=True)
    assert asked == ["jieba", "jieba"]


def test_positions_that_count_past_the_padding_want_one_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """The end token in its place would count no position wherever a document ends."""
    config = TokenizerConfig(kind="char", specials=("[MASK]", "[CLS]", "[SEP]"))
    train_tokenizer([LINE, "0123456789"], config).save("tokenizer")
    model = "model={family: roberta, layers: 1, width: 16, heads: 2}"
    taken = ["tokenizer={from: tokenizer}", "objective.name=masked"]
    told = refused(capsys, "small.yaml", "--out", "run", model, *taken)
    assert "counts positions past the padding" in told and "tokenizer.specials" in told


def test_what_was_learnt_is_kept_where_its_words_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no words")

    monkeypatch.setattr(speak, "generate", fails)
    with pytest.raises(RuntimeError, match="no words"):
        train(parse_recipe({**VALUES, "data": {**VALUES["data"], "train": "text.txt"}}), Path("run"), quiet=True)
    assert yuwen.load("run/last").family == "qwen3"
    assert (Path("run") / "last").readlink().name == "checkpoint-3"


def test_a_key_given_twice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "train.steps is given twice" in refused(capsys, "small.yaml", "train.steps=2", "train.steps=4")
    Path("deep.yaml").write_text("data: " + "[" * 3000 + "]" * 3000)
    assert "nested too deeply" in refused(capsys, "deep.yaml")
