"""A conversation: history, what is read again, what an interrupt leaves, what a full context forgets, the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chat_models import save_chat_model
from yuwen.app import transcript
from yuwen.app.chat import Chat
from yuwen.app.loading.load import Loaded, load
from yuwen.app.transcript import Message, Transcript
from yuwen.errors import UserError
from yuwen.generation import SamplingConfig, generate

GREEDY = SamplingConfig(temperature=0, max_tokens=8)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(save_chat_model(tmp_path_factory.mktemp("chat"), context=200))


def silent(text: str) -> None:
    pass


def test_an_answer_is_what_the_rendered_conversation_gives(loaded: Loaded) -> None:
    chat, shown = Chat(loaded, GREEDY), []
    assert loaded.tokenizer is not None
    for message in ("你好", "The fox?", "山"):
        messages = [*chat.messages, {"role": "user", "content": message}]
        turn = chat.ask(message, shown.append)
        ids = [int(id) for id in loaded.tokenizer.render(messages, generate=True).ids]
        alone = generate(chat.model, [ids], GREEDY, tokenizer=loaded.tokenizer, end_ids=loaded.end_ids)[0]
        assert (turn.text, turn.ids, turn.prompt_tokens) == (alone.text, alone.ids, len(ids))
        assert chat.messages == [*messages, {"role": "assistant", "content": turn.text}]
    assert "".join(shown) == "".join(message["content"] for message in chat.messages[1::2])
    assert turn.reused_tokens > turn.prompt_tokens // 2


def interrupting(after: int) -> tuple[list[str], object]:
    shown: list[str] = []

    def show(text: str) -> None:
        shown.append(text)
        if len(shown) == after:
            raise KeyboardInterrupt

    return shown, show


def test_an_interrupted_answer_stays_marked(loaded: Loaded) -> None:
    chat = Chat(loaded, GREEDY)
    shown, show = interrupting(3)
    turn = chat.ask("你好", show)  # type: ignore[arg-type]
    assert turn.finish_reason == "interrupted" and turn.text == "".join(shown)
    assert chat.messages[-1] == {"role": "assistant", "content": turn.text, "interrupted": True}
    following = chat.ask("more", silent)
    fresh = Chat(loaded, GREEDY, chat.messages[:2])
    assert fresh.ask("more", silent).text == following.text


def test_an_answer_interrupted_before_its_first_word_can_be_asked_again(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Chat(loaded, GREEDY)
    expected = Chat(loaded, GREEDY).ask("你好", silent).text

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(chat.model.blocks[1], "forward", interrupt)
        assert chat.ask("你好", silent).text == "" and chat.messages == []
    assert chat.retry(silent).text == expected and len(chat.messages) == 2
    with monkeypatch.context() as patch:
        patch.setattr(chat.model.blocks[1], "forward", interrupt)
        chat.retry(silent)
    assert chat.messages[-1]["content"] == expected and chat.unanswered is None
    assert chat.undo() == "你好" and chat.messages == []
    with pytest.raises(UserError, match="nothing has been said"):
        chat.undo()


def test_retry_draws_anew(loaded: Loaded) -> None:
    chat = Chat(loaded, SamplingConfig(temperature=2.0, max_tokens=12, seed=1))
    first = chat.ask("山", silent).text
    assert chat.retry(silent).text != first and len(chat.messages) == 2


def test_a_full_context_forgets_the_oldest_exchanges_and_keeps_the_system_prompt(loaded: Loaded) -> None:
    chat = Chat(loaded, GREEDY)
    chat.set_system("语文")
    forgotten = []
    for number in range(14):
        turn = chat.ask(f"{number} fox", silent)
        forgotten.append(turn.forgotten)
        assert turn.prompt_tokens + len(turn.ids) <= 201
    assert forgotten[0] == 0 and forgotten == sorted(forgotten) and forgotten[-1] > 3
    assert len(set(forgotten)) < len(forgotten) - forgotten.index(next(f for f in forgotten if f))  # not each time
    assert len(chat.messages) == 29 and chat.system == "语文"
    kept = [chat.messages[0], *chat.messages[1 + 2 * turn.forgotten : -1]]
    assert loaded.tokenizer is not None
    assert len(loaded.tokenizer.render(kept, generate=True).ids) == turn.prompt_tokens
    with pytest.raises(UserError, match="shorten it"):
        chat.ask("山" * 300, silent)
    assert len(chat.messages) == 29


def test_models_that_cannot_chat_are_told_in_a_line(tmp_path: Path) -> None:
    base = load(save_chat_model(tmp_path / "base", chat=False))
    with pytest.raises(UserError, match="has learned no conversation: yuwen generate .*base PROMPT"):
        Chat(base, GREEDY)


SAID: list[Message] = [
    {"role": "user", "content": "你好\n\u2028"},
    {"role": "assistant", "content": "🙂", "interrupted": True},
]


def test_a_transcript_goes_on_where_it_ended_and_keeps_what_was_before(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    kept = Transcript(path)
    assert kept.messages == [] and not path.exists()
    kept.save(SAID)
    assert transcript.read(path) == Transcript(path).messages == SAID
    kept.begin(SAID)
    kept.save([{"role": "system", "content": "only"}])
    kept.save(SAID[:1])
    assert [len(json.loads(line)["messages"]) for line in path.read_text("utf-8").split("\n")[:-1]] == [2, 1]
    assert list(tmp_path.iterdir()) == [path]


def test_other_fields_of_a_row_stay(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    said = [{"role": "human", "content": "a"}, {"role": "assistant", "content": "b"}]
    path.write_text(json.dumps({"id": 7, "messages": said}) + "\n", encoding="utf-8")
    kept = Transcript(path)
    assert kept.messages == [{"role": "user", "content": "a"}, said[1]]
    kept.save(kept.messages)
    assert json.loads(path.read_text("utf-8"))["id"] == 7


def test_what_messages_held_beside_their_text_stays(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    said = [{"role": "developer", "content": "be short", "by": "me"}, {"role": "human", "content": "a", "weight": 2},
            {"role": "assistant", "content": "b", "weight": 0}]  # fmt: skip
    path.write_text(json.dumps({"messages": said}) + "\n", encoding="utf-8")
    kept = Transcript(path)
    more = [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]
    kept.save([*kept.messages, *more])
    assert json.loads(path.read_text("utf-8"))["messages"] == [*said, *more]
    kept.save([*kept.messages[:2], *more])  # from where it was taken back
    assert json.loads(path.read_text("utf-8"))["messages"] == [*said[:2], *more]


def test_two_conversations_do_not_write_over_each_other(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    one, other = Transcript(path), Transcript(path)
    one.save(SAID)
    with pytest.raises(UserError, match="another program has changed it meanwhile"):
        other.save(SAID[:1])
    assert transcript.read(path) == SAID
    one.save(SAID[:1])
    assert transcript.read(path) == SAID[:1]


def test_a_message_that_nobody_answered_stays_in_the_file(tmp_path: Path) -> None:
    """Another is asked instead: what goes on is a line of its own."""
    path = tmp_path / "t.jsonl"
    open_ = json.dumps({"id": 7, "messages": [{"role": "user", "content": "a"}]}) + "\n"
    path.write_text(open_, encoding="utf-8")
    kept = Transcript(path)
    assert kept.messages == [{"role": "user", "content": "a"}]
    kept.save([])
    assert path.read_text("utf-8") == open_
    kept.save(SAID)
    assert path.read_text("utf-8").startswith(open_) and transcript.read(path) == SAID
    longer = [*SAID, {"role": "user", "content": "and?"}]
    path.write_text(json.dumps({"messages": longer}) + "\n", encoding="utf-8")
    kept = Transcript(path)
    kept.save([*SAID, {"role": "user", "content": "well?"}, {"role": "assistant", "content": "so"}])
    assert [len(json.loads(line)["messages"]) for line in path.read_text("utf-8").split("\n")[:-1]] == [3, 4]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"notes\n", r"t.jsonl:1: not JSON"),
        (b'{"messages": [{"role": "user", "content": "a"}]}\n\n{"text": "b"}\n', r"t.jsonl:2: no messages"),
        (b'{"messages": [{"role": "wizard", "content": "a"}]}', r"unknown role"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_what_is_no_transcript_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "t.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=said):
        Transcript(tmp_path / "t.jsonl")


def test_a_message_without_answer_is_asked_by_retry(loaded: Loaded) -> None:
    chat = Chat(loaded, GREEDY, SAID[:1])
    assert chat.messages == [] and chat.retry(silent).message == "你好\n\u2028" and len(chat.messages) == 2
