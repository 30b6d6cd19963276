"""yuwen quickstart, in seconds: the same road, much shorter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yuwen.app.quickstart import quickstart
from yuwen.app.run.folder import claim
from yuwen.cli.main import run as command
from yuwen.errors import UserError

QUICK = [
    "data.length=32", "tokenizer.vocabulary=300", "model.layers=1", "model.width=16", "model.heads=2", "model.ffn=32",
    "train.batch_tokens=128", "train.compile=off", "train.precision=float32", "train.tensorboard=false",
    "train.steps=6", "train.minutes=0", "sample.tokens=4",
]  # fmt: skip


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    lines = [f"{n}. Spring wind cuts the leaves of willows. 二月春风似剪刀。\n" for n in range(200)]
    Path("mine.txt").write_text("".join(lines), encoding="utf-8")


def test_own_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["quickstart", "--data", "mine.txt", "--json", *QUICK]) == 0
    found = json.loads(capsys.readouterr().out)
    run = Path("runs/quickstart")
    assert (run / "report.html").is_file() and (run / "last").exists()
    assert found["result"]["bits_per_byte"] > 0 and found["result"]["references"] == {}
    assert found["steps"] == 6 and "evaluation" in found["stages"]
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {sample["prompt"] for sample in samples} == {"0. Spring wind cuts the"}  # how the user's own text begins
    assert command(["quickstart", "--data", "mine.txt", *QUICK]) == 0  # once more, in place of the first
    out = capsys.readouterr().out
    assert "bits per byte on held-out text" in out and "report: runs/quickstart/report.html" in out


def test_it_measures_the_text_that_was_held_out() -> None:
    Path("other.txt").write_text("Other words altogether, 全不相同。\n" * 40, encoding="utf-8")
    found = quickstart("mine.txt", run=Path("run"), quiet=True, overrides=[*QUICK, "data.valid=other.txt"])
    assert found["result"]["bytes"] >= len(Path("other.txt").read_bytes()) - 40
    with pytest.raises(UserError, match=r"set data\.valid"):
        quickstart("mine.txt", run=Path("other"), quiet=True, overrides=[*QUICK, "data.valid=0"])
    assert not Path("other").exists()


def test_replaces_only_a_quickstart() -> None:
    kept = Path("precious/file.txt")
    kept.parent.mkdir()
    kept.write_text("precious")
    (kept.parent / ".lock").touch()
    with pytest.raises(UserError, match="holds something else than a quickstart"):
        quickstart("mine.txt", run=kept.parent, quiet=True, overrides=QUICK)
    assert kept.read_text() == "precious"


def test_one_that_was_interrupted_is_replaced() -> None:
    with pytest.raises(UserError, match="fewer than one window"):
        quickstart(
            "mine.txt", run=Path("run"), quiet=True, overrides=[*QUICK, "data.length=65536", "train.batch_tokens=65536"]
        )
    assert quickstart("mine.txt", run=Path("run"), quiet=True, overrides=QUICK)["steps"] == 6
    with claim(Path("run")), pytest.raises(UserError, match="another process is training"):
        quickstart("mine.txt", run=Path("run"), quiet=True, overrides=QUICK)
    assert Path("run/last").exists()


def test_mistakes_are_told_before_anything_is_removed() -> None:
    quickstart("mine.txt", run=Path("run"), quiet=True, overrides=QUICK)
    with pytest.raises(UserError, match=r"unknown key model\.layer: did you mean layers"):
        quickstart("mine.txt", run=Path("run"), quiet=True, overrides=["model.layer=1"])
    with pytest.raises(UserError, match="missing.txt"):
        quickstart("missing.txt", run=Path("run"), quiet=True, overrides=QUICK)
    with pytest.raises(UserError, match="give steps or minutes, not both"):
        quickstart("mine.txt", run=Path("run"), quiet=True, overrides=[*QUICK, "train.minutes=1"])
    with pytest.raises(UserError, match=r"absent\.txt"):
        quickstart("mine.txt", run=Path("run"), quiet=True, overrides=[*QUICK, "data.valid=absent.txt"])
    before = Path("run/summary.json").read_bytes()
    with pytest.raises(UserError, match="smaller than the tokenizer's"):  # told when the model is about to be built
        quickstart("mine.txt", run=Path("run"), quiet=True, overrides=[*QUICK, "model.vocabulary=64"])
    assert Path("run/last").exists() and Path("run/summary.json").read_bytes() == before
    assert not Path("run.before").exists()


def test_records_name_their_text_and_words_may_be_unknown() -> None:
    rows = [{"id": n, "body": f"{n}. Spring wind cuts the leaves of willows."} for n in range(200)]
    rows[-1]["body"] += " 二月春风似剪刀"  # held out, and of characters that the vocabulary lacks
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    settings = [*QUICK, "data.field=body", "tokenizer.kind=char"]
    found = quickstart("rows.jsonl", run=Path("run"), quiet=True, overrides=settings)
    assert found["result"]["bits_per_byte"] is None and found["result"]["loss"] > 0
    prompts = {
        json.loads(line)["prompt"] for line in Path("run/samples.jsonl").read_text(encoding="utf-8").splitlines()
    }
    assert prompts == {f"{n}. Spring wind cuts the" for n in range(3)}
