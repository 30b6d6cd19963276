"""What an objective knows of a tokenizer."""

from __future__ import annotations

import pytest
from objective_cases import tokenizer, vocabulary

from yuwen.errors import UserError
from yuwen.objectives import OBJECTIVES, SPECIAL_TOKENS, Vocabulary, build_objective, special_tokens
from yuwen.tokens import TokenizerConfig, train


def test_ids_are_told_by_role() -> None:
    known, whole = vocabulary(), tokenizer()
    texts = {
        role: whole.decode([getattr(known, role)], skip_special=False) for role in ("pad", "cls", "sep", "mask", "end")
    }
    assert texts == {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "end": "<|endoftext|>"}
    assert len(known.sentinels) == 100
    assert [whole.decode([id], skip_special=False) for id in known.sentinels[:11]] == [
        f"<extra_id_{n}>" for n in range(11)
    ]


def test_ordinary_is_what_text_is_written_with() -> None:
    known, whole = vocabulary(), tokenizer()
    assert set(known.ordinary) == set(range(whole.size)) - whole.special_ids
    assert known.is_ordinary.sum() == len(known.ordinary) and known.is_ordinary.shape == (whole.size,)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_tokenizer_trained_for_an_objective_has_what_it_needs(name: str) -> None:
    from objective_cases import settings

    for kind in OBJECTIVES[name]:
        for reads in kind.reads:
            config = TokenizerConfig(kind="char").with_specials(special_tokens(name, reads))
            assert build_objective(settings(name), train(["abc语文"], config), reads)


def test_each_objective_says_what_it_needs() -> None:
    assert set(OBJECTIVES) <= set(SPECIAL_TOKENS)
    assert special_tokens("classify", "forwards") == ()
    assert "[MASK]" in special_tokens("masked", "both")


@pytest.mark.parametrize("name", ["masked", "next_sentence", "sentence_order", "denoising"])
def test_a_missing_token_is_named(name: str) -> None:
    from objective_cases import settings

    plain = train(["abc"], TokenizerConfig(kind="char"))
    reads = next(iter(OBJECTIVES[name][0].reads))
    with pytest.raises(UserError, match=rf"objective.name={name} needs a \w+ token.*tokenizer.specials=\[\[PAD\], "):
        build_objective(settings(name), plain, reads)


def test_published_names_are_read() -> None:
    config = TokenizerConfig(kind="char", specials=("<extra_id_2>", "<extra_id_0>", "<extra_id_10>", "<other>"))
    whole = train(["abc"], config)
    texts = [whole.decode([id], skip_special=False) for id in Vocabulary.of(whole).sentinels]
    assert texts == ["<extra_id_0>", "<extra_id_2>", "<extra_id_10>"]  # by number, whatever their ids
