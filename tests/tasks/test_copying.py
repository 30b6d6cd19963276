"""A decoder that can only copy, and what is built on it: tags and answers."""

from __future__ import annotations

import hashlib
from copy import deepcopy as copy_of
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_models import Ready, decoder

from yuwen.errors import UserError
from yuwen.tasks import answer, tag
from yuwen.tasks.answer import sentences, windows
from yuwen.tasks.copying import Copier, copy, ends, occurrences
from yuwen.tasks.reading import read
from yuwen.tasks.tagged import Tagged, tagged
from yuwen.text import Document
from yuwen.tokens import Tokenizer

CONTEXT = "Alice met Bob in Paris in 1998. 她们后来住在北京的山里。The dog sleeps; the fox jumps."


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("prompt", ["Text:", "谁在山里？", "x", "Answer: "])
def test_a_copy_is_a_piece_between_word_borders(tokenizer: Tokenizer, family: str, prompt: str) -> None:
    ready = decoder(tokenizer, family)
    batch = next(read(ready.model, [tokenizer.encode(prompt)]))
    copier = Copier(tokenizer, CONTEXT)
    log_p_V = batch.logits_BV[0].log_softmax(-1)
    piece = copy(ready, batch.cache, log_p_V, copier, ends(tokenizer, ready.end_ids), 12, empty=False)
    if piece is not None:
        assert CONTEXT[piece.start : piece.end] == piece.text and piece.text
        assert (piece.start, piece.end) in list(occurrences(CONTEXT, piece.text))
        assert 0 < piece.probability <= piece.score <= 1


def test_a_copy_follows_the_likeliest_allowed_tokens(one: Ready) -> None:
    """Scores that want to say "Bob in Paris" and then a line break get just that."""
    tokenizer = one.tokenizer
    wanted = [*tokenizer.encode(" Bob in Paris"), tokenizer.encode("\n")[0]]

    class Said:
        config = one.model.config

        def __init__(self) -> None:
            self.step = 0

        def parameters(self):
            return iter([torch.zeros(1)])

        def __call__(self, ids_BT, cache=None):
            self.step += 1
            return torch.zeros(1, 1, 1)

        def output(self, h):
            logits = torch.zeros(1, 1, tokenizer.size)
            logits[0, 0, wanted[min(self.step, len(wanted) - 1)]] = 20.0
            return logits

        training = False

        def eval(self):
            return self

    said = Said()
    log_p_V = said.output(None)[0, 0].log_softmax(-1)
    ready = replace(one, model=said)
    piece = copy(ready, None, log_p_V, Copier(tokenizer, CONTEXT), ends(tokenizer, ()), 12, empty=False)  # type: ignore[arg-type]
    assert piece is not None and (piece.text, piece.start, piece.end) == ("Bob in Paris", 10, 22)
    assert piece.ended_by == wanted[-1] and piece.probability > 0.9


def test_no_copy_crosses_a_break_or_leaves_a_character(tokenizer: Tokenizer) -> None:
    copier = Copier(tokenizer, "山里，庙里")
    places = [{3}, {6}]
    assert all(copier.may_end(p) for p in places) and not copier.may_end({1})
    broken = Copier(tokenizer, "ab,cd", breaks="[,;]")
    space = tokenizer.encode(" ")[0]  # may come first, and says nothing yet
    assert {p for id, ends_ in broken.first.items() if id != space for p in ends_} <= {1, 2, 4, 5}
    assert broken.starts == {0, 3} and not broken.longer({2})


def test_words_only() -> None:
    assert list(occurrences("Bob bobbed; Bob!", "Bob")) == [(0, 3), (12, 15)]
    assert list(occurrences("山里有山", "山")) == [(0, 1), (3, 4)]


def test_a_vocabulary_without_spaces_is_refused(reads: Ready) -> None:
    with pytest.raises(UserError, match="leaves out spaces"):
        Copier(reads.tokenizer, "a dog")


def test_answers_have_their_place(ready: Ready) -> None:
    rows = list(answer(ready, ["Who met Bob?", "她们住在哪里？"], context=CONTEXT))
    assert [row["input"] for row in rows] == ["Who met Bob?", "她们住在哪里？"]
    for row in rows:
        if row["answer"] is not None:
            assert CONTEXT[row["start"] : row["end"]] == row["answer"] and 0 < row["probability"] <= 1


def saying(ready: Ready, text: str) -> Ready:
    """The same model, which says this text after every prompt it reads anew."""
    model, wanted = copy_of(ready.model), [*ready.tokenizer.encode(text), ready.tokenizer.end_id or 0]
    forward, output, said = model.forward, model.output, [0]

    def reading(ids_BT: torch.Tensor, *arguments: Any, **settings: Any) -> torch.Tensor:
        said[0] = 0 if ids_BT.shape[1] > 1 else said[0] + 1
        return forward(ids_BT, *arguments, **settings)

    def scores(h_BTD: torch.Tensor) -> torch.Tensor:
        logits_BTV = output(h_BTD).clone()
        logits_BTV[:, -1, wanted[min(said[0], len(wanted) - 1)]] = 1e4
        return logits_BTV

    model.forward, model.output = reading, scores
    return replace(ready, model=model)


def test_an_answer_is_what_the_model_copies(one: Ready) -> None:
    row = next(answer(saying(one, " Bob in Paris\n"), ["Who?"], context=CONTEXT, language="en"))
    assert (row["answer"], row["start"], row["end"]) == ("Bob in Paris", 10, 22)
    assert 0.9 < row["probability"] <= 1


def test_tags_are_what_the_model_lists(one: Ready) -> None:
    (row,) = tag(saying(one, " Alice, Bob\n"), ["Alice met Bob. Bob slept."], labels=["person"], language="en")
    assert [(span["text"], span["start"], span["end"]) for span in row["spans"]] == [
        ("Alice", 0, 5), ("Bob", 10, 13), ("Bob", 15, 18),
    ]  # fmt: skip
    (row,) = tag(saying(one, " none\n"), ["Alice met Bob."], labels=["person"], language="en")
    assert row["spans"] == []


def test_a_long_context_in_windows(one: Ready) -> None:
    """What stands once, far behind the first window, has its place in the whole."""
    context = " ".join([*(f"The fox slept {n} days." for n in range(40)), CONTEXT])
    says = saying(one, " Bob in Paris\n")
    row = next(answer(says, ["Who?"], context=context, window=64, language="en"))
    assert row["answer"] == "Bob in Paris" and context[row["start"] : row["end"]] == row["answer"]
    assert row["start"] > 40 * len("The fox slept 1 days. ")


@given(st.text(alphabet="ab .。\n山里", max_size=200), st.integers(4, 40))
def test_windows_cover_the_text(text: str, size: int) -> None:
    class Characters:
        def encode(self, part: str) -> list[int]:
            return [0] * len(part)

    found = list(windows(Characters(), text, size))
    covered = {n for start, end in found for n in range(start, end)}
    assert all(n in covered or text[n].isspace() for n in range(len(text)))
    assert all(sum(not c.isspace() for c in text[start:end]) <= size for start, end in found)
    assert found == sorted(found) and len(set(found)) == len(found)


def test_sentences() -> None:
    text = "It is 3.5 m. 好吗？“好。”\nYes!"
    assert [text[start:end] for start, end in sentences(text)] == ["It is 3.5 m.", " 好吗？", "“好。”", "Yes!"]


def test_rows_with_a_context_of_their_own(one: Ready) -> None:
    row = Document("c\nq", "f.json", 4, fields={"context": CONTEXT, "question": "Who?", "answers": []})
    found = next(answer(one, [row]))
    assert found["input"] == "Who?" and found["context_hash"] == hashlib.sha256(CONTEXT.encode()).hexdigest()[:16]
    assert "context_hash" not in next(answer(one, ["Who?"], context=CONTEXT))
    with pytest.raises(UserError, match="f.json:4: this row has a context of its own"):
        next(answer(one, [row], context="x"))
    with pytest.raises(UserError, match="nothing to answer from"):
        next(answer(one, ["Who?"]))


def test_an_encoder_names_the_nearest_sentence(reads: Ready) -> None:
    context = "the quick fox. alice in paris. a lazy dog."
    row = next(answer(reads, ["alice in paris"], context=context))
    assert row["answer"] == "alice in paris." and context[row["start"] : row["end"]] == row["answer"]
    with pytest.raises(UserError, match="window means nothing for an encoder"):
        answer(reads, ["x"], context=context, window=64)


def test_tags_are_places_in_the_text(ready: Ready) -> None:
    text = "Alice and Bob sleep in Paris. Bob jumps."
    for row in tag(ready, [text, "山里有座庙"], labels=["person", "place"]):
        for span in row["spans"]:
            assert row["input"][span["start"] : span["end"]] == span["text"] and span["label"] in ("person", "place")
        starts = [span["start"] for span in row["spans"]]
        assert starts == sorted(starts)


TAGGED = [
    Document("alice in paris", "s", 1, fields={"tokens": ["alice", "in", "paris"], "tags": ["B-PER", "O", "B-LOC"]}),
    Document("the lazy dog", "s", 2, fields={"spans": [{"start": 4, "end": 12, "label": "PER"}]}),
]


def test_an_encoder_tags_as_its_nearest_examples(reads: Ready) -> None:
    rows = list(tag(reads, ["alice in paris", "the lazy dog"], shots=TAGGED))
    assert [(s["text"], s["label"]) for s in rows[0]["spans"]] == [("alice", "PER"), ("paris", "LOC")]
    assert [(s["text"], s["start"], s["end"]) for s in rows[1]["spans"]] == [("lazy dog", 4, 12)]
    assert rows[0]["spans"][0]["score"] == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match="an encoder tags by examples"):
        tag(reads, ["x"], labels=["PER"])
    with pytest.raises(UserError, match="label 'DATE' is in no example"):
        tag(reads, ["x"], labels=["PER", "DATE"], shots=TAGGED)


def test_tagged_rows() -> None:
    columns = Document(
        "北京大学 in 1998",
        "s",
        1,
        fields={"tokens": ["北京", "大学", "in", "1998"], "tags": ["B-A", "I-A", "O", "S-B"]},
    )
    assert tagged([columns])[0].of("A") == ["北京大学"] and tagged([columns])[0].of("B") == ["1998"]
    assert isinstance(tagged(TAGGED)[1], Tagged)
    for fields, said in (
        ({}, "this example is not tagged"),
        ({"tags": ["O"]}, "this example is not tagged"),
        ({"tokens": ["abcdef"], "tags": ["O", "O"]}, "one tag for each token"),
        ({"tokens": ["abcdef"], "tags": [0]}, "one tag for each token"),
        ({"tokens": ["abcdef"], "tags": [""]}, "one tag for each token"),
        ({"tokens": ["xyz"], "tags": ["O"]}, "the token 'xyz' is not in the text"),
        ({"tokens": ["abcdef"], "tags": ["NN"]}, "'NN' is no tag for 'abcdef'"),
        ({"tokens": ["abcdef"], "tags": ["B-"]}, "'B-' is no tag for 'abcdef'"),
        ({"spans": [{"start": 3, "end": 99, "label": "x"}]}, "is no span"),
        ({"spans": ["x"]}, "is no span"),
        ({"spans": [{"start": 0, "end": 2, "label": " "}]}, "is no span"),
    ):
        with pytest.raises(UserError, match=f"s:7: .*{said}"):
            tagged([Document("abcdef", "s", 7, fields=fields)])


@pytest.mark.parametrize(
    ("labels", "said"), [(None, "what to look for"), (["a", "a"], "'a' is given twice"), (["a", ""], "an empty label")]
)
def test_a_decoder_needs_labels(one: Ready, labels: list[str] | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        tag(one, ["x"], labels=labels)
