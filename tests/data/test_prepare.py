from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from data_corpora import lines, memory
from hypothesis import given
from hypothesis import strategies as st

from yuwen.data import Shards, corpus, encode, prepare, prepare_rows, workers
from yuwen.data.shards import DOCUMENT, SENTENCE, WORD
from yuwen.errors import UserError
from yuwen.text import Document, FieldsConfig, TextConfig
from yuwen.tokens import Tokenizer

Make = Callable[..., Shards]

corpus_module = sys.modules["yuwen.data.corpus"]  # its name in the package is the function's

RUN = """
import os, signal, sys
from yuwen.data import corpus, encode, prepare, workers, writer
from yuwen.errors import UserError
from yuwen.tokens import Tokenizer
encode._BATCH, writer._COMMIT, workers._SMALL = 300, 2000, int(sys.argv[6])
data, tokenizer, out, batches, limit = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
if limit:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
def progress(_):
    global batches
    batches -= 1
    if not batches:
        os.kill(os.getpid(), signal.SIGKILL)
try:
    prepare(corpus(data), Tokenizer.load(tokenizer), out=out, workers=2, progress=progress)
except UserError as error:
    sys.exit(str(error))
"""


def run(data: Path, tokenizer: Path, out: Path, kill_after: int = 0, limit: int = 0, small: int = 0) -> tuple[int, str]:
    """Prepares in a process of its own, with small batches and frequent commits."""
    arguments = [str(argument) for argument in (data, tokenizer, out, kill_after, limit, small)]
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records with repetitions, and a text file of several parts that occurs twice."""
    folder = tmp_path_factory.mktemp("corpus")
    draw = random.Random(1)
    rows = ["".join(draw.choices("天地玄黄宇宙洪荒abc .。\n", k=draw.randrange(3, 90))) for _ in range(400)]
    rows += draw.choices(rows, k=100)
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows), encoding="utf-8")
    long = "\n".join(f"{i} {rows[i % 400][:40]}" for i in range(20_000))
    for name in ("b.txt", "c.txt"):
        (folder / name).write_text(long, encoding="utf-8")
    (folder / "d.txt").write_text("尾 the end", encoding="utf-8")
    return folder


@given(
    st.lists(st.tuples(st.text("甲乙ab。! \n", min_size=1, max_size=20), st.sampled_from(["end", "line"])), min_size=1)
)
def test_every_document_is_marked_and_closed(
    tokenizer: Tokenizer, make_shards: Make, drawn: list[tuple[str, str]]
) -> None:
    documents = [Document(f"x{text}y", "f", closing=closing) for text, closing in drawn]
    shards = make_shards(documents, deduplicate=False)
    expected: list[int] = []
    starts, size = [], 0
    for document in documents:
        starts.append(len(expected))
        text = document.text + "\n" * (document.closing == "line")
        size += len(text.encode())
        expected += tokenizer.encode(text) + [tokenizer.end_id] * (document.closing == "end")
    assert shards.tokens.tolist() == expected
    assert np.flatnonzero(shards.flags & DOCUMENT).tolist() == starts
    assert (shards.documents, shards.bytes, shards.meta.tokens) == (len(documents), size, len(expected))
    table, inside = tokenizer.flags()[shards.tokens], (shards.flags & DOCUMENT) == 0
    assert np.array_equal((shards.flags & WORD)[inside], (table & 1)[inside])
    ends = (table & 2) != 0
    begins = np.append(False, ends[:-1]) & ~ends
    assert np.array_equal((shards.flags & SENTENCE != 0)[inside], begins[inside])
    assert np.all(shards.flags[~inside] == WORD | SENTENCE | DOCUMENT)


def test_a_sentence_starts_after_one_has_ended(tokenizer: Tokenizer, make_shards: Make) -> None:
    shards = make_shards([Document("你好。再见!! Bye. 完", "f")])
    starts = np.flatnonzero(shards.flags & SENTENCE)
    sentences = [tokenizer.decode(part.tolist()).strip() for part in np.split(shards.tokens, starts[1:])]
    assert sentences == ["你好。", "再见!!", "Bye.", "完"]


@given(st.integers(1, 30), st.randoms(use_true_random=False))
def test_parts_make_the_tokens_of_the_whole(make_shards: Make, count: int, draw: random.Random) -> None:
    rows = [f"第{i}行, row {i}。\n" for i in range(count)]
    cuts = sorted(draw.sample(range(1, count), draw.randrange(count))) if count > 1 else []
    parts = ["".join(rows[a:b]) for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
    pieces = [Document(part, "f", closing="none") for part in parts[:-1]] + [Document(parts[-1], "f")]
    torn, whole = (
        make_shards([*pieces, Document("后", "g")]),
        make_shards([Document("".join(rows), "f"), Document("后", "g")]),
    )
    assert np.array_equal(torn.tokens, whole.tokens) and np.array_equal(torn.flags, whole.flags)
    assert (torn.documents, torn.bytes) == (whole.documents, whole.bytes) == (2, whole.bytes)


def test_long_texts_are_encoded_in_pieces_to_the_same_ids(
    tokenizer: Tokenizer, make_shards: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(f"line {i}。\n" + "\n" * (i % 3) + " " * (i % 2) for i in range(300))
    monkeypatch.setattr(encode, "_PIECE", 50)
    assert make_shards([Document(text, "f")]).tokens.tolist() == [*tokenizer.encode(text), tokenizer.end_id]


def test_copies_are_left_out_and_counted(tokenizer: Tokenizer, make_shards: Make) -> None:
    shards = make_shards(lines(["甲甲", "乙乙", "甲甲", "丙丙", "乙乙", "甲甲"]))
    assert tokenizer.decode(shards.tokens.tolist()) == "甲甲\n乙乙\n丙丙\n"
    assert shards.meta.dropped == {"duplicate": 3} and shards.documents == 3


def test_a_copy_in_parts_is_taken_back(tokenizer: Tokenizer, make_shards: Make) -> None:
    parts = [Document("头\n", "f", closing="none"), Document("中\n", "f", closing="none"), Document("尾", "f")]
    other = [parts[0], Document("异", "f")]
    shards = make_shards([*parts, Document("单", "g"), *parts, *other, *parts])
    text = tokenizer.decode(shards.tokens.tolist(), skip_special=False)
    assert text == "头\n中\n尾<|endoftext|>单<|endoftext|>头\n异<|endoftext|>"
    assert shards.meta.dropped == {"duplicate": 2} and shards.documents == 3
    assert shards.bytes == len("头\n中\n尾单头\n异".encode())
    assert len(np.flatnonzero(shards.flags & DOCUMENT)) == 3


def test_what_validation_holds_is_left_out(tokenizer: Tokenizer, tmp_path: Path) -> None:
    parts = [Document("头\n", "f", closing="none"), Document("尾", "f")]
    train = memory([Document("甲", "f"), *parts, Document("乙", "f")])
    shards = prepare(train, tokenizer, tmp_path, exclude=memory([*parts, Document("乙", "v")]))
    assert tokenizer.decode(shards.tokens.tolist()) == "甲"
    assert shards.meta.dropped == {"also in validation": 2}


def test_the_result_does_not_depend_on_workers(
    data: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_BATCH", 1000)
    monkeypatch.setattr(workers, "_SMALL", 0)
    folders = [
        prepare(corpus(str(data)), tokenizer, tmp_path / str(count), workers=count).folder for count in (1, 2, 3)
    ]
    one, *others = [contents(folder) for folder in folders]
    assert all(other == one for other in others)
    meta = json.loads(one["meta.json"])
    assert meta["documents"] + meta["dropped"]["duplicate"] == 503 and meta["dropped"]["duplicate"] >= 101
    assert set(one) == {"meta.json", "tokens.bin", "flags.bin"}


@pytest.mark.parametrize("small", [0, 10**9], ids=["workers", "one process"])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(
    data: Path, tokenizer_folder: Path, tmp_path: Path, small: int
) -> None:
    assert run(data, tokenizer_folder, tmp_path / "whole", small=small)[0] == 0
    draw, kills, resumed = random.Random(small), 0, tmp_path / "resumed"
    while not resumed.exists() and kills < 40:
        status, _ = run(data, tokenizer_folder, resumed, kill_after=draw.randrange(15, 45), small=small)
        assert status in (0, -signal.SIGKILL)
        kills += status != 0
    assert kills >= 2
    assert contents(resumed) == contents(tmp_path / "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "resumed"}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_workers_end_with_the_parent(
    data: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUWEN_TEST", str(tmp_path))
    assert run(data, tokenizer_folder, tmp_path / "out", kill_after=5)[0] == -signal.SIGKILL
    monkeypatch.delenv("YUWEN_TEST")
    deadline = time.monotonic() + 20
    while left := _processes_with(f"YUWEN_TEST={tmp_path}"):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _processes_with(variable: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable.encode() in (process / "environ").read_bytes():
                found.append(process.name)
    return found


def test_a_full_disk_is_one_line_and_the_work_goes_on_later(data: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    assert run(data, tokenizer_folder, tmp_path / "whole")[0] == 0
    status, message = run(data, tokenizer_folder, tmp_path / "out", limit=100_000)
    assert status == 1 and "cannot write prepared data: File too large; free some space" in message
    assert message.count("\n") == 1 and not (tmp_path / "out").exists()
    assert run(data, tokenizer_folder, tmp_path / "out")[0] == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_one_line(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write prepared data: Permission denied"):
        prepare(memory([Document("甲", "f")]), tokenizer, tmp_path)


def test_a_file_where_a_folder_is_needed_is_one_line(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write prepared data: Not a directory"):
        prepare(memory([Document("甲", "f")]), tokenizer, tmp_path / "file")
    with pytest.raises(UserError, match="already holds something"):
        prepare(memory([Document("甲", "f")]), tokenizer, out=tmp_path / "file")


def test_the_second_call_finds_the_first_ones_work(tokenizer: Tokenizer, tmp_path: Path) -> None:
    passes = []

    def prepared(text: str, **settings: object) -> Path:
        one = memory([Document(text, "f")])
        again = type(one)(one.name, lambda: passes.append(text) or one.documents(), one.identity)
        return prepare(again, tokenizer, tmp_path, **settings).folder

    assert prepared("甲") == prepared("甲") and passes == ["甲"]
    assert len({prepared("甲"), prepared("乙"), prepared("甲", deduplicate=False)}) == 3
    assert prepared("甲", exclude=memory([Document("丙", "v")])) != prepared("甲")


def test_another_version_of_what_cleans_is_other_work(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = memory([Document("漢語", "f")])

    def prepared(**settings: Any) -> Path:
        return prepare(document, tokenizer, tmp_path, text=TextConfig(**settings)).folder

    plain, simplified = prepared(), prepared(simplify=True)
    own = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "9.9" if name == "opencc" else own(name))
    assert prepared() == plain
    assert prepared(simplify=True) not in (plain, simplified)


def test_content_not_name_is_the_identity(tmp_path: Path) -> None:
    for name, text in {"a.txt": "甲", "b.txt": "甲", "c.txt": "乙", "d.jsonl": "甲"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    a, b, c, d = (corpus(str(tmp_path / name)).identity for name in ("a.txt", "b.txt", "c.txt", "d.jsonl"))
    assert a == b and len({a, c, d}) == 3
    both = [
        corpus([str(tmp_path / name) for name in names]).identity for names in (["a.txt", "c.txt"], ["c.txt", "a.txt"])
    ]
    assert len({a, c, *both}) == 4
    assert corpus(str(tmp_path / "a.txt"), encoding="gb18030").identity != a


def test_damaged_shards_are_made_again(tokenizer: Tokenizer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shards = prepare(memory([Document("甲", "f")]), tokenizer, tmp_path)
    good = contents(shards.folder)
    (shards.folder / "tokens.bin").write_bytes(b"")
    assert contents(prepare(memory([Document("甲", "f")]), tokenizer, tmp_path).folder) == good
    assert "damaged, tokens.bin has 0 bytes" in capfd.readouterr().err


def test_a_folder_with_something_else_is_not_touched(tokenizer: Tokenizer, tmp_path: Path) -> None:
    prepare(memory([Document("甲", "f")]), tokenizer, out=tmp_path / "one")
    before = contents(tmp_path / "one")
    with pytest.raises(UserError, match="one: holds data prepared from something else"):
        prepare(memory([Document("乙", "f")]), tokenizer, out=tmp_path / "one")
    assert contents(tmp_path / "one") == before
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "thesis.doc").touch()
    with pytest.raises(UserError, match="two: already holds something"):
        prepare(memory([Document("乙", "f")]), tokenizer, out=tmp_path / "two")
    (tmp_path / "spacy").mkdir()
    (tmp_path / "spacy" / "meta.json").write_text('{"lang": "zh", "name": "model"}')
    (tmp_path / "spacy" / "tokens.bin").write_bytes(b"mine")
    theirs = contents(tmp_path / "spacy")
    with pytest.raises(UserError, match="spacy: already holds something else"):
        prepare(memory([Document("乙", "f")]), tokenizer, out=tmp_path / "spacy")
    rows = FieldsConfig(text="text")
    prepare_rows(memory([Document("乙", "f")]), rows, tokenizer, out=tmp_path / "rows")
    ours = contents(tmp_path / "rows")
    with pytest.raises(UserError, match="rows: already holds something else"):
        prepare(memory([Document("乙", "f")]), tokenizer, out=tmp_path / "rows")
    assert (contents(tmp_path / "spacy"), contents(tmp_path / "rows")) == (theirs, ours)
    (tmp_path / "three").mkdir()
    assert len(prepare(memory([Document("乙", "f")]), tokenizer, out=tmp_path / "three")) > 1


def test_nothing_left_is_said_with_the_reasons(tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="memory: no text is left to prepare.*1 also in validation"):
        prepare(memory([Document("甲", "f")]), tokenizer, tmp_path, exclude=memory([Document("甲", "v")]))
    with pytest.raises(UserError, match="there are no documents"):
        prepare(memory([]), tokenizer, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_bad_row_is_told_and_leaves_nothing_behind(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "甲"}\n{"text"\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"bad\.jsonl:2"):
        prepare(corpus(str(tmp_path / "bad.jsonl")), tokenizer, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_bad_validation_row_leaves_nothing_behind(tokenizer: Tokenizer, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text"\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"bad\.jsonl"):
        prepare(memory(lines(["甲"])), tokenizer, tmp_path / "cache", exclude=corpus(str(tmp_path / "bad.jsonl")))
    assert not list((tmp_path / "cache").iterdir())


def test_a_worker_that_is_killed_is_one_line(
    data: Path, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "_BATCH", 1000)
    monkeypatch.setattr(workers, "_SMALL", 0)

    def kill(_: object) -> None:
        for child in psutil.Process().children():
            child.kill()

    with pytest.raises(UserError, match=r"ended unexpectedly \(status -9\).*fewer workers"):
        prepare(corpus(str(data)), tokenizer, tmp_path, workers=2, progress=kill)
    assert prepare(corpus(str(data)), tokenizer, tmp_path, workers=2).documents


def test_a_tokenizer_without_an_end_is_refused_where_one_is_needed(tokenizer_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((tokenizer_folder / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    endless = Tokenizer.load(tmp_path)
    with pytest.raises(UserError, match="no end token"):
        prepare(memory([Document("甲", "f")]), endless, tmp_path / "cache")
    assert prepare(memory(lines(["甲"])), endless, tmp_path / "cache").documents == 1


@given(st.data())
def test_a_small_corpus_is_read_once_a_large_one_each_time(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.text(max_size=5), max_size=6))
    room, passes = data.draw(st.integers(0, 20)), 0

    def read() -> Iterator[Document]:
        nonlocal passes
        passes += 1
        return iter(lines(texts))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "_SMALL", room)
        documents = corpus_module._kept(read)
        next(documents(), None)  # a pass that is broken off
        for _ in range(3):
            assert list(documents()) == lines(texts)
    # the pass that is broken off finds out how large it is, unless there is nothing to break off
    assert passes == (1 if not texts else 2 if sum(map(len, texts)) <= room else 4)


def test_two_processes_share_one_preparation(data: Path, tokenizer_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(data), str(tokenizer_folder), str(tmp_path / "out"), "0", "0", "0"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("waiting for another process" in error for error in errors) <= 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
