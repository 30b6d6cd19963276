"""A run that is broken off and resumed is the run that was never broken off, to the bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import Stopped, assert_same_run, logged, recipe, stored, text_file

from yuwen.app.machine import probe
from yuwen.app.run.recipe import read_recipe
from yuwen.app.run.train import train, train_file
from yuwen.errors import UserError
from yuwen.training import Checkpoints, plan

Stop = Callable[[int | None], None]


def broken_off(folder: Path, run: Path, stop_at: Stop, *steps: int, overrides: tuple[str, ...] = ()) -> None:
    for step in steps:
        stop_at(step)
        with pytest.raises(Stopped):
            train(recipe(folder, *overrides), run, resume="auto", quiet=True)
    stop_at(None)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_bitwise(tmp_path: Path, stop_at: Stop, optimizer: str, precision: str) -> None:
    overrides = (
        f"optimizer.name={optimizer}",
        "optimizer.lr=0.01",
        "optimizer.l1=1e-5",
        f"train.precision={precision}",
    )
    train(recipe(tmp_path, *overrides), tmp_path / "whole", quiet=True)
    # before the first checkpoint, right behind one, in between, and at a step already passed in an earlier life
    broken_off(tmp_path, tmp_path / "broken", stop_at, 2, 4, 7, 7, 11, overrides=overrides)
    summary = train(recipe(tmp_path, *overrides), tmp_path / "broken", resume="auto", quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")
    assert (summary.steps, summary.tokens) == (12, 12 * 256)
    assert [line["step"] for line in logged(tmp_path / "broken")] == list(range(13))


@pytest.mark.slow
def test_bitwise_as_it_is_trained_by_default(tmp_path: Path, stop_at: Stop) -> None:
    """Compiled and in bf16, where attention and its dropout have a kernel of their own."""
    if not probe.compiler_works():
        pytest.skip("no C++ compiler: nothing is compiled here")
    overrides = ("train.compile=on", "train.precision=bfloat16", "train.steps=8")
    train(recipe(tmp_path, *overrides), tmp_path / "whole", quiet=True)
    broken_off(tmp_path, tmp_path / "broken", stop_at, 6, overrides=overrides)
    train(recipe(tmp_path, *overrides), tmp_path / "broken", resume="auto", quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "broken")


def test_a_run_s_own_recipe_means_that_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train(recipe(tmp_path), tmp_path / "mine", quiet=True)
    with pytest.raises(UserError, match="mine holds a run already"):
        train_file(Path("mine/recipe.yaml"), None, [], resume=None, quiet=True)
    assert train_file(Path("mine/recipe.yaml"), None, ["train.steps=14"], resume="auto", quiet=True).steps == 14
    assert not Path("runs").exists()


def test_evaluating_and_sampling_change_nothing(tmp_path: Path) -> None:
    train(recipe(tmp_path), tmp_path / "busy", quiet=True)
    silent = ("train.evaluate_every=0", "train.sample_every=0", "train.checkpoint_every=0", "sample.prompts=[]")
    train(recipe(tmp_path, *silent), tmp_path / "silent", quiet=True)
    busy, silent_weights = stored(tmp_path / "busy" / "last")[0], stored(tmp_path / "silent" / "last")[0]
    assert all(busy[name].equal(silent_weights[name]) for name in busy)
    assert [line["loss"] for line in logged(tmp_path / "busy")[1:]] == [
        line["loss"] for line in logged(tmp_path / "silent")[1:]
    ]


def test_more_steps_go_on_from_where_it_stood(tmp_path: Path) -> None:
    constant = ("schedule.name=constant", "train.evaluate_every=2")
    train(recipe(tmp_path, *constant), tmp_path / "long", quiet=True)
    train(recipe(tmp_path, *constant, "train.steps=8"), tmp_path / "raised", quiet=True)
    train(recipe(tmp_path, *constant), tmp_path / "raised", resume="auto", quiet=True)
    long, raised = stored(tmp_path / "long" / "last"), stored(tmp_path / "raised" / "last")
    assert all(long[0][name].equal(raised[0][name]) for name in long[0])
    assert logged(tmp_path / "long") == logged(tmp_path / "raised")
    assert "steps: 12" in (tmp_path / "raised" / "recipe.yaml").read_text()


def test_fewer_steps_are_told_of(tmp_path: Path, stop_at: Stop, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    broken_off(tmp_path, run, stop_at, 6, overrides=("train.steps=20",))
    capsys.readouterr()
    train(recipe(tmp_path), run, resume="auto")
    assert "12 steps in all, where it was to be 20" in capsys.readouterr().err
    train(recipe(tmp_path, "train.steps=14"), run, resume="auto")
    assert "where it was to be" not in capsys.readouterr().err


def test_the_runs_own_recipe_goes_on_like_the_first(
    tmp_path: Path, stop_at: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its steps are a plan that minutes came to, not a wish: it may still be made anew."""
    monkeypatch.setattr(plan, "_TIMED_SECONDS", 0.0)  # planned after nine steps
    minutes = ("train.steps=0", "train.minutes=99", "train.checkpoint_every=4")
    run = tmp_path / "run"
    stop_at(14)
    with pytest.raises(Stopped):
        train(recipe(tmp_path, *minutes), run, quiet=True)
    own = read_recipe(run / "recipe.yaml")
    assert own.train.steps and own.train.minutes == 99
    with pytest.raises(Stopped):
        stop_at(18)
        train(own, run, resume="auto", quiet=True)
    state = json.loads((run / "last" / "training" / "state.json").read_text())
    assert state["progress"]["step"] == 16 and not state["progress"]["fixed"]


def test_a_summary_that_was_not_written_in_time(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(tmp_path), run, quiet=True)
    before = json.loads((run / "summary.json").read_text())
    (run / "summary.json").unlink()
    train(recipe(tmp_path), run, resume="auto", quiet=True)
    after = json.loads((run / "summary.json").read_text())
    assert {**after, "stages": 0} == {**before, "stages": 0}


def test_nor_is_that_of_an_earlier_end_taken_for_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(tmp_path, "train.steps=8"), run, quiet=True)
    before = (run / "summary.json").read_bytes()
    train(recipe(tmp_path), run, resume="auto", quiet=True)
    (run / "summary.json").write_bytes(before)  # as if killed before the second was written
    train(recipe(tmp_path), run, resume="auto", quiet=True)
    assert json.loads((run / "summary.json").read_text())["steps"] == 12


def test_a_log_is_not_cut_before_the_run_has_gone_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    train(recipe(tmp_path, "train.keep=9"), run, quiet=True)
    files = {name: (run / name).read_bytes() for name in ("metrics.jsonl", "samples.jsonl", "recipe.yaml")}

    def killed(self: Checkpoints, step: int, best: int = 0) -> bool:
        raise Stopped

    monkeypatch.setattr(Checkpoints, "rewind", killed)
    with pytest.raises(Stopped):
        train(recipe(tmp_path, "train.keep=9"), run, resume=str(run / "checkpoint-4"), quiet=True)
    assert files == {name: (run / name).read_bytes() for name in files}


def written(run: Path) -> dict[Path, int]:
    """When each file of a run was last written."""
    return {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_finished_run_says_so_and_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    before = train(recipe(tmp_path), run, quiet=True)
    files = written(run)
    after = train(recipe(tmp_path), run, resume="auto")
    assert f"{run} is finished after 12 steps: raise train.steps" in capsys.readouterr().err
    assert (after.steps, after.best_loss) == (before.steps, before.best_loss)
    assert files == {
        path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name != ".lock"
    }


def test_an_earlier_checkpoint_makes_later_ones_void(tmp_path: Path, stop_at: Stop) -> None:
    run = tmp_path / "run"
    train(recipe(tmp_path, "train.keep=9"), run, quiet=True)
    shutil.copytree(run, tmp_path / "whole", symlinks=True)
    stop_at(6)
    with pytest.raises(Stopped):
        train(recipe(tmp_path, "train.keep=9"), run, resume=str(run / "checkpoint-4"), quiet=True)
    assert (run / "last").readlink() == Path("checkpoint-4")
    assert logged(run)[-1]["step"] == 6
    assert not (run / "best").exists()  # it pointed into the life that was given up
    stop_at(None)
    train(recipe(tmp_path, "train.keep=9"), run, resume="auto", quiet=True)
    assert_same_run(tmp_path / "whole", run)
    assert Checkpoints(run).steps() == [4, 8, 12]


def truncated(checkpoint: Path) -> str:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    return "model.safetensors has changed since it was written"


def flipped(checkpoint: Path) -> str:
    path = checkpoint / "training" / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return "training/state.safetensors has changed since it was written"


def without_manifest(checkpoint: Path) -> str:
    (checkpoint / "training" / "manifest.json").unlink()
    return "training/manifest.json cannot be read"


def without_tokenizer(checkpoint: Path) -> str:
    (checkpoint / "tokenizer.json").unlink()
    return "tokenizer.json is missing"


@pytest.mark.parametrize("damage", [truncated, flipped, without_manifest, without_tokenizer])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    tmp_path: Path, stop_at: Stop, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], str]
) -> None:
    run = tmp_path / "run"
    broken_off(tmp_path, run, stop_at, 10)
    reason = damage(run / "checkpoint-8")
    with pytest.raises(UserError, match=r"checkpoint-8: damaged .*; use --resume auto"):
        train(recipe(tmp_path), run, resume=str(run / "checkpoint-8"), quiet=True)
    train(recipe(tmp_path), run, resume="auto")
    shown = capsys.readouterr().err
    assert f"{run / 'checkpoint-8'} is damaged ({reason}): using the checkpoint before it" in shown
    assert f"resuming {run / 'checkpoint-4'} at step 4" in shown
    train(recipe(tmp_path), tmp_path / "whole", quiet=True)
    assert_same_run(tmp_path / "whole", run)


def test_no_whole_checkpoint_is_no_reason_to_begin_anew(tmp_path: Path, stop_at: Stop) -> None:
    run = tmp_path / "run"
    broken_off(tmp_path, run, stop_at, 6)
    truncated(run / "checkpoint-4")
    with pytest.raises(UserError, match="no checkpoint is whole"):
        train(recipe(tmp_path), run, resume="auto", quiet=True)
    assert logged(run)[-1]["step"] == 6


def test_a_run_goes_on_as_it_began(tmp_path: Path, stop_at: Stop) -> None:
    run = tmp_path / "run"
    broken_off(tmp_path, run, stop_at, 5)
    with pytest.raises(UserError, match=r"optimizer\.lr=0\.5 differs from the run's own 0\.02 .*choose another --out"):
        train(recipe(tmp_path, "optimizer.lr=0.5"), run, resume="auto", quiet=True)
    text = text_file(tmp_path)
    content = text.read_text()
    text.write_text(content.replace("cat", "dog"))
    with pytest.raises(UserError, match="the text has changed since this run began"):
        train(recipe(tmp_path), run, resume="auto", quiet=True)
    text.write_text(content)
    train(recipe(tmp_path, "train.micro_tokens=64", "train.log_every=2"), run, resume="auto", quiet=True)


@pytest.mark.parametrize(
    "resume", ["nonsense", "", "/", "{run}/checkpoint-99", "{run}/checkpoint-x", "{run}/tokenizer"]
)
def test_resuming_nonsense(tmp_path: Path, resume: str) -> None:
    run = tmp_path / "run"
    (run / "checkpoint-x").mkdir(parents=True)
    (run / "tokenizer").mkdir()
    with pytest.raises(UserError, match="^--resume .*(give a checkpoint-N folder|there is no such checkpoint)"):
        train(recipe(tmp_path), run, resume=resume.format(run=run), quiet=True)


def test_nothing_to_resume_is_a_fresh_start(tmp_path: Path, stop_at: Stop) -> None:
    run = tmp_path / "run"
    broken_off(tmp_path, run, stop_at, 3)
    # a recipe may still be changed where no checkpoint stands
    train(recipe(tmp_path, "optimizer.lr=0.01", "train.steps=4"), run, resume="auto", quiet=True)
    assert [line["step"] for line in logged(run)] == [0, 1, 2, 3, 4]
    assert json.loads((run / "summary.json").read_text())["steps"] == 4
    with pytest.raises(UserError, match="holds a run already: add --resume auto"):
        train(recipe(tmp_path), run, quiet=True)
