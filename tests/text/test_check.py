from __future__ import annotations

import json
from pathlib import Path

import pytest

from yuwen import text


def test_all_problems_are_collected(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        '{"text": "一"}\n{"text": \n{"content": 3}\n{"text": "二"}\n{"titel": "x"}\n'.encode()
        + '{"text": "一"}\n{"text": " "}\n'.encode()
    )
    (tmp_path / "b.txt").write_bytes(b"good\nbad \xff and \xfe\ngood\n\xff\n")
    (tmp_path / "c.png").write_bytes(b"\x89PNG\0")
    (tmp_path / "d.txt").write_text("")
    report = text.check(str(tmp_path))
    assert not report.ok and report.files == 4 and report.empty_files == 1
    assert (report.documents, report.empty, report.duplicates) == (5, 1, 1)
    assert report.found == {"broken JSON": 1, "wrong type": 1, "missing field": 1, "bad byte": 2, "binary": 1}
    places = [(Path(problem.file).name, problem.line, problem.field) for problem in report.problems]
    assert places == [
        ("a.jsonl", 2, None),
        ("a.jsonl", 3, "content"),
        ("a.jsonl", 5, "text"),
        ("b.txt", 2, None),
        ("b.txt", 4, None),
        ("c.png", None, None),
    ]
    assert all(problem.what and problem.fix for problem in report.problems)
    as_dict = json.loads(json.dumps(report.as_dict()))
    assert as_dict["ok"] is False and as_dict["problems"][0]["line"] == 2
    assert len(text.check(str(tmp_path), limit=2).problems) == 2


def test_good_data_is_ok_and_parts_count_as_one(tmp_path: Path) -> None:
    content = "一行中文。\nA line.\n" * 60_000
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(content, encoding="utf-8")
    report = text.check(str(tmp_path))
    assert report.ok and (report.documents, report.duplicates) == (2, 1)
    assert (report.characters, report.bytes) == (2 * len(content), 2 * len(content.encode()))
    assert report.encodings == {"utf-8": 2}


def test_nothing_to_read_and_settings_that_do_not_fit_are_problems(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("")
    assert text.check(str(path)).found == {"nothing to read": 1}
    path.write_text("x")
    (problem,) = text.check(str(path), field="body").problems
    said = "data.field=body means nothing here: the file is plain text; drop the setting, or give rows"
    assert str(problem) == f"{path}: {said} (.jsonl, .csv, .tsv, .parquet)"


def test_samples_and_real_sets(shared: Path) -> None:
    report = text.check("sample:zh-news")
    assert report.ok and report.documents == 19484 and report.duplicates > 0
    assert text.check(str(shared / "data/sst2")).ok
    report = text.check(str(shared / "data/glue/CoLA/train.tsv"))
    assert report.found == {"missing field": 8551} and len(report.problems) == 100


@pytest.mark.parametrize("limit", [0, 1])
def test_the_limit_limits_the_list_not_the_count(tmp_path: Path, limit: int) -> None:
    (tmp_path / "a.jsonl").write_text("x\n" * 9)
    report = text.check(str(tmp_path), limit=limit)
    assert len(report.problems) == limit and report.found == {"broken JSON": 9} and not report.ok
