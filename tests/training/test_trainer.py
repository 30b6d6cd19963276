"""What the loop decides: budgets, patience, the best checkpoint, runs that diverge."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import Stopped, logged, recipe, stored

from yuwen.app.run.learn import Learning
from yuwen.app.run.recipe import read_recipe
from yuwen.app.run.train import train
from yuwen.errors import UserError
from yuwen.training import Checkpoints, Processes, plan, trainer
from yuwen.training.plan import Plans
from yuwen.training.progress import Progress

Stop = Callable[[int | None], None]
SECONDS = ("train.steps=0", "train.minutes=0.02", "train.checkpoint_every=2", "train.evaluate_every=0")


def test_minutes_become_steps_that_a_resumed_run_keeps(
    tmp_path: Path, stop_at: Stop, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_TIMED_SECONDS", 0.0)
    run, hours = tmp_path / "run", (*SECONDS, "train.minutes=99")
    stop_at(11)  # planned after nine steps
    with pytest.raises(Stopped):
        train(recipe(tmp_path, *hours), run)
    assert "99 minutes are" in capsys.readouterr().err
    planned = yaml.safe_load((run / "recipe.yaml").read_text())["train"]["steps"]
    assert planned > 20
    assert stored(run / "last")[1]["progress"]["total_steps"] == planned
    stop_at(15)
    with pytest.raises(Stopped):
        train(recipe(tmp_path, *hours), run, resume="auto")
    assert "minutes are" not in capsys.readouterr().err
    assert yaml.safe_load((run / "recipe.yaml").read_text())["train"]["steps"] == planned
    assert stored(run / "last")[1]["progress"]["total_steps"] == planned
    stop_at(None)
    with pytest.raises(UserError, match=r"train\.minutes: this run's budget has become a number of steps"):
        train(recipe(tmp_path, *SECONDS), run, resume="auto", quiet=True)
    with (run / "plan.jsonl").open("a") as file:  # a plan of an earlier start, for a step that is still to come
        file.write('{"step": 15, "total_steps": 40, "seconds": 9.0}\n{"step": 20, "tot')
    train(recipe(tmp_path, *hours, "train.steps=16"), run, resume="auto", quiet=True)
    assert logged(run)[-1]["step"] == 16
    assert (run / "plan.jsonl").read_text().endswith('"seconds": 9.0}\n')


@pytest.mark.parametrize(("steps", "warns"), [(4, True), (5, False)])
def test_a_run_that_only_warms_up_says_so(
    tmp_path: Path, steps: int, warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe(tmp_path, f"train.steps={steps}", "schedule.warmup=4"), tmp_path / "run")
    assert (f"schedule.warmup is 4 steps long and the run {steps}" in capsys.readouterr().err) is warns


def test_before_the_minutes_are_planned_nothing_is_saved(tmp_path: Path, stop_at: Stop) -> None:
    """The schedule changes with the plan, so that a run which resumed before it would not be the undisturbed one."""
    run = tmp_path / "run"
    for step in (5, 8, 8):
        stop_at(step)
        with pytest.raises(Stopped):
            train(recipe(tmp_path, *SECONDS), run, resume="auto", quiet=True)
        assert not Checkpoints(run).steps()
    assert yaml.safe_load((run / "recipe.yaml").read_text())["train"]["steps"] == 0
    stop_at(None)
    summary = train(recipe(tmp_path, *SECONDS), run, resume="auto", quiet=True)
    assert yaml.safe_load((run / "recipe.yaml").read_text())["train"]["steps"] == summary.steps
    assert summary.steps >= 9


def test_the_rate_does_not_fall_before_there_is_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_TIMED", 50)
    monkeypatch.setattr(trainer, "_UNPLANNED", 20)  # long past
    changes = (*SECONDS, "schedule.name=linear", "schedule.warmup=0", "train.log_every=1")
    train(recipe(tmp_path, *changes), tmp_path / "run", quiet=True)
    rates = [line["lr"] for line in logged(tmp_path / "run") if 1 < line["step"] <= 50]
    assert min(rates) >= 0.94 * max(rates)


def test_minutes_are_planned_from_a_share_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "_TIMED_SHARE", 1.0)  # all of them: nothing is left to plan for
    summary = train(recipe(tmp_path, *SECONDS), tmp_path / "run", quiet=True)
    assert summary.seconds >= 0.02 * 60


@settings(max_examples=60, deadline=None)
@given(
    drift=st.lists(st.floats(0.5, 2.0), min_size=1, max_size=12),
    evaluation=st.floats(0, 5),
    every=st.sampled_from([0, 50, 200]),
    sampling=st.floats(0, 1),
)
def test_minutes_are_kept_whatever_the_clock_does(
    drift: list[float], evaluation: float, every: int, sampling: float
) -> None:
    """A processor that runs at half or twice its pace for a while, and samples that no plan foresees."""
    with tempfile.TemporaryDirectory() as folder:
        plans, progress, seconds, budget = Plans(6, Path(folder), Processes()), Progress(), 9.0, 360.0
        plans.begin(0)
        while not progress.total_steps or progress.step < progress.total_steps:
            took = 0.3 * drift[min(int(seconds / budget * len(drift)), len(drift) - 1)]
            seconds += took
            progress.step += 1
            plans.after(progress, took, seconds, evaluation, every)
            if every and progress.step % every == 0:
                seconds += evaluation + sampling
        made = [json.loads(line) for line in (Path(folder) / "plan.jsonl").read_text().splitlines()]
    assert made[-1]["total_steps"] == progress.step and len(made) < 16
    # a last plan may be eight steps long, and the pace become a fourth within it
    assert seconds + evaluation == pytest.approx(budget, abs=3 * 8 * 0.6 + 2 * (evaluation + sampling))


def test_a_resumed_run_follows_the_plans_that_were_made(
    tmp_path: Path, stop_at: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan changes at step 13 here, after the checkpoint at 12; who resumes there must plan the same, whatever the
    clock says by then."""
    after, pace = Plans.after, 1.0

    def in_its_own_time(self: Plans, progress: Progress, *_: object) -> bool:
        self.budget = 20.0
        return after(self, progress, pace, pace * progress.step, 0.0, 0)

    monkeypatch.setattr(Plans, "after", in_its_own_time)
    run, minutes = tmp_path / "run", (*SECONDS, "train.log_every=1", "schedule.name=linear", "train.keep=9")
    stop_at(17)
    with pytest.raises(Stopped):
        train(recipe(tmp_path, *minutes), run, quiet=True)
    plans = (run / "plan.jsonl").read_text()
    assert [json.loads(line)["step"] for line in plans.splitlines()] == [9]  # 20 steps; from 15 on too few are left
    rates = {line["step"]: line["lr"] for line in logged(run) if line["step"]}
    (run / "plan.jsonl").write_text(plans + '{"step": 13, "total_steps": 40, "seconds": 13.0}\n')
    pace = 0.5  # twice as fast
    stop_at(None)
    summary = train(recipe(tmp_path, *minutes), run, resume=str(run / "checkpoint-12"), quiet=True)
    again = {line["step"]: line["lr"] for line in logged(run) if line["step"]}
    assert all(again[step] == rates[step] for step in range(1, 14))
    assert again[14] > rates[14], "a rate that falls to zero at step 40 is higher than one that does at 20"
    assert summary.steps == 40
    assert yaml.safe_load((run / "recipe.yaml").read_text())["train"]["steps"] == 40


def test_no_evaluation_is_made_that_nobody_asked_for(tmp_path: Path) -> None:
    settings = ("train.evaluate_every=0", "train.minutes=0", "train.steps=2")
    train(recipe(tmp_path, *settings), tmp_path / "run", quiet=True)
    assert [line["step"] for line in logged(tmp_path / "run") if "valid_loss" in line] == [2]


def test_steps_and_minutes_together_are_ambiguous(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not both"):
        train(recipe(tmp_path, "train.minutes=1"), tmp_path / "run", quiet=True)


def evaluations(monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
    """Makes the evaluations say these losses, one after another; the last one for ever."""
    series = itertools.chain(losses, itertools.repeat(losses[-1]))
    monkeypatch.setattr(Learning, "_evaluate", lambda self: {"valid_loss": next(series)})


def test_patience_ends_a_run_at_its_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, settings = tmp_path / "run", ("train.patience=2", "train.checkpoint_every=0", "train.evaluate_every=1")
    evaluations(monkeypatch, 9.0, 5.0, 4.0, 6.0, 5.0, 1.0)  # steps 0 to 5
    summary = train(recipe(tmp_path, *settings), run, quiet=True)
    assert (summary.steps, summary.best_loss) == (4, 4.0)
    assert (run / "best").readlink() == Path("checkpoint-2")
    assert (run / "last").readlink() == Path("checkpoint-4")
    train(recipe(tmp_path, *settings), run, resume="auto")
    assert "is finished after 4 steps" in capsys.readouterr().err
    evaluations(monkeypatch, 3.0)  # better once, at step 5
    assert train(recipe(tmp_path, *settings, "train.patience=4"), run, resume="auto", quiet=True).steps == 9


def test_patience_without_evaluations_is_refused(tmp_path: Path) -> None:
    for missing in ("data.valid=0", "train.evaluate_every=0"):
        with pytest.raises(UserError, match=r"train\.patience waits for evaluations"):
            recipe(tmp_path, "train.patience=2", missing)


def test_best_is_the_best_of_those_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluations(monkeypatch, 9.0, 1.0, 5.0, 8.0, 3.0, 4.0, 4.0)  # the lowest, at step 1, is not saved
    run = tmp_path / "run"
    train(recipe(tmp_path, "train.evaluate_every=1", "train.checkpoint_every=2", "train.steps=6"), run, quiet=True)
    assert (run / "best").readlink() == Path("checkpoint-4")
    assert Checkpoints(run).steps() == [4, 6]


def test_the_best_outlives_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluations(monkeypatch, 9.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    run = tmp_path / "run"
    train(recipe(tmp_path, "train.evaluate_every=2", "train.checkpoint_every=2", "train.steps=10"), run, quiet=True)
    assert Checkpoints(run).steps() == [2, 8, 10]
    assert (run / "best").readlink() == Path("checkpoint-2")


EACH = ("train.evaluate_every=2", "train.checkpoint_every=2", "train.steps=8")


@pytest.mark.parametrize("link", ["best", "last"])
def test_the_best_outlives_a_kill_between_the_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    run, make = tmp_path / "run", Checkpoints._link
    evaluations(monkeypatch, 9.0, 3.0, 1.0)  # steps 0, 2, 4

    def killed(self: Checkpoints, name: str, target: str) -> None:
        if (name, target) == (link, "checkpoint-4"):
            raise Stopped
        make(self, name, target)

    monkeypatch.setattr(Checkpoints, "_link", killed)
    with pytest.raises(Stopped):
        train(recipe(tmp_path, *EACH), run, quiet=True)
    monkeypatch.setattr(Checkpoints, "_link", make)
    evaluations(monkeypatch, 1.0, 2.0, 2.0)  # steps 4, 6, 8 once more
    train(recipe(tmp_path, *EACH), run, resume="auto", quiet=True)
    assert (run / "best").readlink() == Path("checkpoint-4")


def test_a_best_that_is_gone_does_not_keep_others_from_being_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    evaluations(monkeypatch, 9.0, 2.0, 2.1, 1.9, 3.0)  # at step 6 the best of step 2 is removed
    train(recipe(tmp_path, *EACH, "train.steps=6"), run, quiet=True)
    assert Checkpoints(run).steps() == [4, 6]
    evaluations(monkeypatch, 2.5, 2.4, 2.6)  # another life, from step 4 on
    train(recipe(tmp_path, *EACH, "train.steps=10"), run, resume=str(run / "checkpoint-4"), quiet=True)
    assert (run / "best").readlink() == Path("checkpoint-8")


def test_steps_asked_of_a_budget_in_minutes_are_asked_again(
    tmp_path: Path, stop_at: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command that was broken off, given once more, means the same."""
    monkeypatch.setattr(plan, "_TIMED_SECONDS", 0.0)  # planned after nine steps
    hours, run = (*SECONDS, "train.minutes=99"), tmp_path / "run"
    stop_at(11)
    with pytest.raises(Stopped):
        train(recipe(tmp_path, *hours), run, quiet=True)
    wished = recipe(tmp_path, *hours, "train.steps=13", "train.checkpoint_every=0")
    with pytest.raises(Stopped):  # before anything is saved
        train(wished, run, resume="auto", quiet=True)
    stop_at(None)
    assert train(wished, run, resume="auto", quiet=True).steps == 13


def test_a_budget_that_was_planned_begins_afresh_where_nothing_was_saved(
    tmp_path: Path, stop_at: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_TIMED_SECONDS", 0.0)
    run = tmp_path / "run"
    stop_at(11)
    for budget in (("train.minutes=99",), ("train.flops=1e9",)):
        with pytest.raises(Stopped):
            train(recipe(tmp_path, *SECONDS, "train.minutes=0", *budget, "train.checkpoint_every=0"), run, quiet=True)
        own = read_recipe(run / "recipe.yaml")
        assert own.train.steps
        with pytest.raises(Stopped):
            train(own, run, resume="auto", quiet=True)
        with pytest.raises(UserError, match="not both"):
            train(own, run, quiet=True)


def test_without_validation(tmp_path: Path) -> None:
    run = tmp_path / "run"
    summary = train(recipe(tmp_path, "data.valid=0", "train.steps=5"), run, quiet=True)
    assert summary.best_loss is None
    assert not (run / "best").is_symlink()
    assert all("valid_loss" not in line for line in logged(run))


def test_a_run_that_diverges_is_stopped(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(
        UserError, match=r"step \d+: the loss or its gradient is no longer a number: .*lower optimizer.lr"
    ):
        train(recipe(tmp_path, "optimizer.name=sgd", "optimizer.lr=1e38", "optimizer.clip=0"), run, quiet=True)
    assert not list(run.glob(".writing-*"))


def test_what_a_line_of_metrics_says(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(tmp_path, "train.log_every=5"), run, quiet=True)
    lines = logged(run)
    assert [line["step"] for line in lines] == [0, 3, 5, 6, 9, 10, 12]
    assert set(lines[2]) == {"step", "tokens", "loss", "lr", "grad_norm"}
    assert set(lines[1]) == set(lines[2]) | {"valid_loss", "bits_per_byte"}
    linear = recipe(tmp_path).schedule
    assert [line["lr"] for line in lines[1:]] == [linear.factor(line["step"] - 1, 12) * 0.02 for line in lines[1:]]


def test_tensorboard_reads_the_same(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    train(recipe(tmp_path, "train.tensorboard=true"), run, quiet=True)
    events = EventAccumulator(str(run))
    events.Reload()
    shown = [(event.step, event.value) for event in events.Scalars("loss")]
    assert shown == [(line["step"], pytest.approx(line["loss"])) for line in logged(run)[1:]]


def test_tensorboard_shows_nothing_of_a_start_that_was_given_up(tmp_path: Path, stop_at: Stop) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, settings = tmp_path / "run", ("train.tensorboard=true", "train.checkpoint_every=0")
    stop_at(5)
    with pytest.raises(Stopped):
        train(recipe(tmp_path, *settings), run, quiet=True)
    stop_at(None)
    train(recipe(tmp_path, *settings), run, resume="auto", quiet=True)
    events = EventAccumulator(str(run))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 13))


def test_the_loop_leaves_a_checkpoint_at_its_end(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(tmp_path, "train.checkpoint_every=0", "train.steps=5"), run, quiet=True)
    assert Checkpoints(run).steps() == [5]
