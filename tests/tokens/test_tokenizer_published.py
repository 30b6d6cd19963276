"""Published folders that leave the roles of special tokens to a Python class: bert-base-chinese, roberta-base …"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors

from yuwen.data import Frame
from yuwen.errors import UserError
from yuwen.tokens import Tokenizer

SPECIALS = {
    "bert": "[PAD] [UNK] [CLS] [SEP] [MASK]",
    "albert": "<pad> <unk> [CLS] [SEP] [MASK]",
    "roberta": "<s> <pad> </s> <unk> <mask>",
    "camembert": "<s> <pad> </s> <unk> <mask>",
    "xlnet": "<unk> <s> </s> <cls> <sep> <pad> <mask>",
    "t5": "<pad> </s> <unk>",
    "llama": "<unk> <s> </s>",
}
FRAMES = {"albert": "[CLS] $A [SEP]", "xlnet": "$A <sep> <cls>", "t5": "$A </s>", "llama": "<s> $A"}


def publish(folder: Path, kind: str, *, special: bool = True, **settings: Any) -> Backend:
    specials = SPECIALS[kind].split()
    ids = {word: id for id, word in enumerate([*specials, "a", "b"])}
    backend = Backend(models.WordLevel(ids, unk_token="[UNK]" if kind == "bert" else "<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        backend.add_special_tokens(specials)
    if kind == "bert":
        backend.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    elif kind == "roberta":
        backend.post_processor = processors.RobertaProcessing(("</s>", ids["</s>"]), ("<s>", ids["<s>"]))
    else:
        frame = FRAMES.get(kind, "<s> $A </s>")
        around = [(word, ids[word]) for word in frame.split() if word != "$A"]
        template = processors.TemplateProcessing(single=frame, special_tokens=around)
        steps = [processors.ByteLevel(trim_offsets=False), template]
        backend.post_processor = processors.Sequence(steps) if kind == "camembert" else template
    backend.save(str(folder / "tokenizer.json"))
    settings = {"do_lower_case": False, "model_max_length": 512, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return backend


def roles(tokenizer: Tokenizer) -> dict[str, str]:
    ids = {role: tokenizer.id_of(f"{role}_token") for role in ("bos", "eos", "pad", "cls", "sep", "mask")}
    return {role: tokenizer.token_bytes(id).decode() for role, id in ids.items() if id is not None}


ROBERTA = {"bos": "<s>", "eos": "</s>", "pad": "<pad>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bert", {"pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}),
        ("albert", {"pad": "<pad>", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}),
        ("roberta", ROBERTA),
        ("camembert", ROBERTA),
        ("xlnet", {**ROBERTA, "cls": "<cls>", "sep": "<sep>"}),
        ("t5", {"eos": "</s>", "pad": "<pad>"}),
        ("llama", {"bos": "<s>", "eos": "</s>"}),
    ],
)
def test_tokenizer_json_tells_the_roles(kind: str, expected: dict[str, str], tmp_path: Path) -> None:
    publish(tmp_path, kind)
    tokenizer = Tokenizer.load(tmp_path)
    assert roles(tokenizer) == expected
    assert tokenizer.unknown_id is not None and b"unk" in tokenizer.token_bytes(tokenizer.unknown_id).lower()
    tokenizer.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved").fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    ("kind", "reads"),
    [
        *(("bert", "both"), ("albert", "both"), ("roberta", "both"), ("camembert", "both"), ("xlnet", "permuted")),
        *(("roberta", "pairs"), ("t5", "pairs"), ("llama", "forwards")),
    ],
)
def test_a_text_is_framed_as_published(kind: str, reads: str, tmp_path: Path) -> None:
    backend = publish(tmp_path, kind)
    tokenizer = Tokenizer.load(tmp_path)
    ids, _ = Frame.of(tokenizer, reads)(np.array(tokenizer.encode("a b")), None, 20)
    assert ids.tolist() == backend.encode("a b").ids


def test_where_a_file_names_roles_there_are_no_others(tmp_path: Path) -> None:
    publish(tmp_path, "roberta", eos_token="</s>")
    assert roles(Tokenizer.load(tmp_path)) == {"eos": "</s>", "cls": "<s>", "sep": "</s>"}, "but the frame is there"
    publish(tmp_path, "roberta", eos_token="</s>", cls_token="<mask>", sep_token={"content": "<pad>"})
    assert roles(Tokenizer.load(tmp_path)) == {"eos": "</s>", "cls": "<mask>", "sep": "<pad>"}


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_only_special_tokens_have_roles(kind: str, tmp_path: Path) -> None:
    publish(tmp_path, kind, special=False)
    tokenizer = Tokenizer.load(tmp_path)
    assert roles(tokenizer) == {}
    with pytest.raises(UserError, match="no cls_token"):
        Frame.of(tokenizer, "both")


@pytest.fixture
def unigram() -> Tokenizer:
    """As T5's: `</s>` is a piece of the model's own, with the best of scores."""
    letters = [(letter, -4.0) for letter in "</s>ab"]
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("▁a", -3.0), *letters]
    backend = Backend(models.Unigram(pieces, unk_id=0))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend.add_special_tokens(["<unk>", "</s>"])
    return Tokenizer(backend, {"eos_token": "</s>"})


@pytest.mark.parametrize("text", ["a </s> b", "</s>", "a</s></s>b", "</s", "<</s>/s>"])
def test_an_end_that_is_typed_ends_nothing(unigram: Tokenizer, text: str) -> None:
    ids, sizes = unigram.encode_bytes(text)
    assert ids.tolist() == unigram.encode(text) == unigram.encode_batch(["a", text])[1].tolist()
    assert unigram.end_id == 1 and 1 not in ids
    assert unigram.decode(ids) == text, "no space comes in where it is cut"
    assert sizes.sum() == len(text) and (sizes >= 0).all()
    assert unigram.encode(text, specials=True).count(1) == text.count("</s>")


def test_unigram_says_what_is_unknown(unigram: Tokenizer) -> None:
    assert unigram.unknown_id == 0
    assert 0 in unigram.encode("中") and 0 not in unigram.encode("ab")


def test_a_special_token_of_one_character_is_unknown_where_it_is_typed() -> None:
    backend = Backend(models.WordLevel({"?": 0, "§": 1, "a": 2}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["§"])
    assert Tokenizer(backend, {}).encode("a § a") == [2, 0, 2]
