"""`yuwen data show`: what each objective makes of text, readable."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rjieba

from yuwen.app.run.show import show
from yuwen.cli.main import run
from yuwen.errors import UserError
from yuwen.objectives import OBJECTIVES
from yuwen.tokens import TokenizerConfig, train

SENTENCES = [
    "语言是思想的衣裳。",
    "天下大事，必作于细。",
    "我们在北京学习语文！",
    "The cat sat on the mat.",
    "你好吗？",
]
ROWS = ("seq2seq", "contrastive", "classify")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("show") / "text.txt"
    path.write_text("\n".join(f"{n}. {SENTENCES[n % 5]} {SENTENCES[n * 3 % 5]}" for n in range(80)), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def rows(text: Path) -> Path:
    path = text.parent / "rows.jsonl"
    made = [{"zh": SENTENCES[n % 5] + str(n), "en": f"sentence number {n}", "kind": "ab"[n % 2]} for n in range(30)]
    path.write_text("\n".join(json.dumps(row) for row in made), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name not in ROWS])
def test_every_objective_of_text_can_be_seen(name: str, text: Path) -> None:
    found = show(str(text), name, length=48)
    assert found.objective["name"] == name and len(found.examples) == 3
    for example in found.examples:
        assert len(example["before"]) > 20 and example["after"]
        assert "[PAD]" not in example["before"] + example["after"]
        asked = example.keys() & {"target", "hidden", "told"}
        assert len(asked) == 1 and example[asked.pop()]
    assert found == show(str(text), name, length=48)
    assert found.examples != show(str(text), name, length=48, seed=1).examples


def test_before_and_after_differ_by_the_noise(text: Path) -> None:
    masked = show(str(text), "masked", ["rate=0.3", "masked=1", "random=0"]).examples[0]
    assert masked["after"].count("[MASK]") == len(masked["hidden"])
    assert all(entry["read"] == "[MASK]" for entry in masked["hidden"])
    span = show(str(text), "span").examples[0]
    for number in range(2):
        assert f"<extra_id_{number}>" in span["after"] and f"<extra_id_{number}>" in span["target"]
    denoising = show(str(text), "denoising", ["infill=0", "permute=false", "delete=0.2"]).examples[0]
    assert len(denoising["after"]) < len(denoising["before"])
    assert denoising["target"] == denoising["before"] + "<|endoftext|>"


def test_rows(rows: Path) -> None:
    pair = show(str(rows), "seq2seq", fields="source=zh,target=en", count=2).examples
    assert len(pair) == 2 and "sentence number" in pair[0]["target"]
    alike = show(str(rows), "contrastive", fields="anchor=zh,positive=en").examples[0]
    assert alike["positive"].startswith("[CLS]sentence number")
    hard = show(str(rows), "contrastive", fields="anchor=zh,positive=en,negative=kind").examples[0]
    assert hard["positive"].startswith("[CLS]sentence number") and hard["negative"] in ("[CLS]a[SEP]", "[CLS]b[SEP]")
    alone = show(str(rows), "contrastive", fields="text=en").examples[0]
    assert "other dropout" in alone["positive"]
    labelled = show(str(rows), "classify", fields="text=en,label=kind").examples[0]
    assert labelled["after"] == f"[CLS]{labelled['before']}[SEP]" and labelled["answer"] in "ab"


def test_a_tokenizer_of_ones_own(text: Path, tmp_path: Path) -> None:
    train([text.read_text(encoding="utf-8")], TokenizerConfig(kind="char")).save(tmp_path)
    assert show(str(text), "causal", tokenizer=str(tmp_path)).tokenizer == str(tmp_path)
    with pytest.raises(UserError, match="needs a mask token"):
        show(str(text), "masked", tokenizer=str(tmp_path))


def test_words_are_hidden_whole(text: Path, tmp_path: Path) -> None:
    """The tokens are characters: by these words would be hidden in parts, by the segmenter's marks they are not."""
    specials = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
    train([text.read_text(encoding="utf-8")], TokenizerConfig(kind="char", specials=specials)).save(tmp_path)
    settings = ["whole_words=true", "masked=1", "random=0", "rate=0.4"]

    def broken(words: str) -> int:
        """How many words of all examples are hidden in part."""
        shown = show(str(text), "masked", settings, words=words, tokenizer=str(tmp_path), length=64, count=8)
        count = 0
        for example in shown.examples:
            before = example["before"].removeprefix("[CLS]").removesuffix("[SEP]")
            after = example["after"].removeprefix("[CLS]").removesuffix("[SEP]").replace("[MASK]", "\0")
            assert len(before) == len(after) and "\0" in after
            start = 0
            for word in rjieba.cut(before):
                hidden = [character == "\0" for character in after[start : start + len(word)]]
                inside = start > 0 and start + len(word) < len(before)  # a window's edge may cut a word
                count += inside and any(hidden) and not all(hidden)
                start += len(word)
        return count

    assert broken("jieba") == 0 < broken("pieces")


@pytest.mark.parametrize(
    ("name", "settings", "options", "message"),
    [
        ("maskd", [], {}, "no such objective maskd: did you mean masked"),
        ("masked", ["rat=1"], {}, "unknown key objective.rat: did you mean rate"),
        ("masked", ["rate"], {}, "not an override"),
        ("masked", ["name=span"], {}, "name: the objective is masked already"),
        ("masked", ["rate=0.3", "rate=0.4"], {}, "rate is given twice"),
        (
            "span",
            ["rate=0.9"],
            {},
            "rate=0.9 in spans of mean_span=3.0 leaves too few tokens between them",
        ),
        ("contrastive", [], {"fields": "text=en,label=kind"}, "would not read data.fields.label"),
        ("classify", [], {"fields": "text=en,label=kind,label=en"}, "label is given twice"),
        ("seq2seq", [], {}, "--fields source=zh,target=en"),
        ("masked", [], {"fields": "text=en"}, "running text: leave --fields out"),
        ("contrastive", [], {"words": "jieba"}, "learns from rows: leave --field and --words out"),
        ("masked", [], {"words": "jeiba"}, "words=jeiba: one of pieces, jieba"),
        ("causal", [], {"words": "jieba"}, "--words jieba is for objectives that hide whole words"),
    ],
)
def test_mistakes_are_named(text: Path, name: str, settings: list[str], options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        show(str(text), name, settings, **options)  # type: ignore[arg-type]


def test_the_command(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "show", str(text), "--objective", "denoising", "--count", "2", "--length", "40", "infill=0.5"]
    assert run([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["objective"]["infill"] == 0.5 and len(printed["examples"]) == 2
    assert run(arguments) == 0
    printed_text = capsys.readouterr()
    assert printed_text.out.startswith("denoising: ") and printed_text.out.count("  before ") == 2
    assert "learnt from" in printed_text.err
    assert run([*arguments[:4], "maskd"]) == 2
