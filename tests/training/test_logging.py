"""metrics.jsonl: appended, cut back, and readable after a crash."""

from __future__ import annotations

from pathlib import Path

from yuwen.training.logging import MetricsLog, cut_back, read_metrics


def test_resuming_cuts_back(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, tensorboard=False)
    for step in range(5):
        log.write({"step": step, "loss": 0.1 * step})
    log.close()
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 5, "lo')  # what a kill may leave
    assert [line["step"] for line in read_metrics(path)] == [0, 1, 2, 3, 4]
    log = MetricsLog(tmp_path, resumed_at=3, tensorboard=False)
    log.write({"step": 4, "loss": 7.0})
    log.close()
    assert read_metrics(path) == [
        *({"step": step, "loss": 0.1 * step} for step in range(4)),
        {"step": 4, "loss": 7.0},
    ]
    MetricsLog(tmp_path, tensorboard=False).close()
    assert path.read_text() == ""


def test_a_line_that_is_cut_within_a_character(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    whole = '{"step": 1, "text": "春风"}\n'.encode()
    path.write_bytes(whole + '{"step": 2, "text": "春'.encode()[:-1])
    cut_back(path, 9)
    assert path.read_bytes() == whole


def test_cutting_back_what_is_not_there(tmp_path: Path) -> None:
    cut_back(tmp_path / "samples.jsonl", 3)
    assert list(tmp_path.iterdir()) == []
