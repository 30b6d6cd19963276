"""DATA[95%:] is what data.valid=0.05 holds out."""

from __future__ import annotations

from pathlib import Path

import pytest

from yuwen.data import corpus, split
from yuwen.errors import UserError
from yuwen.evaluation import documents_of


def texts(data: str) -> list[str]:
    return [document.text for document in documents_of(data)]


def test_the_last_part_of_records(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "t{n}"}}\n' for n in range(40)), encoding="utf-8")
    assert texts(f"{path}[95%:]") == ["t38", "t39"]
    assert texts(f"{path}[97.5%:]") == ["t39"]
    assert texts(f"{path}[0%:]") == texts(str(path)) == [f"t{n}" for n in range(40)]
    held_out = split(corpus(str(path)), 0.3)[1]
    assert texts(f"{path}[70%:]") == [document.text for document in held_out.documents()]


def test_the_last_part_of_a_file_in_characters(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("语" * 90 + "文" * 10, encoding="utf-8")
    assert texts(f"{path}[90%:]") == ["文" * 10]


def test_a_share_by_hash_may_be_all_but_not_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "t{n}"}}\n' for n in range(40)), encoding="utf-8")
    assert texts(f"{path}[hash:999999/1000000]") == texts(str(path))
    with pytest.raises(UserError, match=r"no document of .*a\.jsonl has a hash below that share"):
        texts(f"{path}[hash:1/1000000]")


@pytest.mark.parametrize("part", ["[100%:]", "[250%:]"])
def test_nothing_left_is_refused(tmp_path: Path, part: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text("语文", encoding="utf-8")
    with pytest.raises(UserError, match="nothing is left"):
        texts(f"{path}{part}")


def test_other_brackets_are_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "a1.txt").write_text("one", encoding="utf-8")
    (tmp_path / "a2.txt").write_text("two", encoding="utf-8")
    assert texts(f"{tmp_path}/a[12].txt") == ["one", "two"]
