"""Learns a vocabulary from text: byte-level BPE, WordPiece, Unigram, words or characters."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any, Literal

import pydantic
from tokenizers import AddedToken, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from yuwen.config import Config
from yuwen.errors import UserError
from yuwen.text.document import Document
from yuwen.tokens.files import NAMES
from yuwen.tokens.sample import bounded_sample
from yuwen.tokens.split import LONGEST_WORD, by_script, prepare
from yuwen.tokens.tokenizer import Tokenizer

END, UNKNOWN = "<|endoftext|>", "<|unk|>"
SPECIALS = [END, "<|im_start|>", "<|im_end|>"]
Kind = Literal["bpe", "wordpiece", "unigram", "word", "char"]
# Unigram weighs every substring of its sample at once: about 400 bytes of memory for a byte of text, BPE about 60.
_SAMPLE_BYTES = {"bpe": 16 << 20, "wordpiece": 16 << 20, "unigram": 2 << 20, "word": 64 << 20}
log = logging.getLogger(__name__)


class TokenizerConfig(Config):
    """What to learn. `vocabulary` counts everything, special tokens included."""

    kind: Kind = "bpe"
    vocabulary: int = pydantic.Field(default=8192, ge=8)
    sample_bytes: int | None = pydantic.Field(default=None, ge=1)
    """UTF-8 bytes of text to learn from, drawn uniformly; by default 16 MiB (unigram 2, word 64; char reads it all)."""
    minimum_count: int | None = pydantic.Field(default=None, ge=1)
    """A pair (bpe, wordpiece) or a word seen less often is not learned; by default 2."""
    cut: Literal["script", "spaces", "characters"] = "script"
    """Where kind=word finds words: by script, marks apart and each Chinese character for itself; or only where a space
    or line break stands, for text that is cut already, as WikiText's is. With kind=bpe, `characters` keeps every token
    within one character: common ones become tokens and rare ones are spelled in bytes, so that any text can be written,
    which kind=char cannot."""
    unknown: str | None = None
    """The word by which such text itself writes what its vocabulary lacks (WikiText: <unk>): a word like others, which
    also stands for words never seen. By default one that no text can hold, <|unk|>."""
    specials: tuple[str, ...] = ()
    """Further special tokens. [PAD], [CLS], [SEP] and [MASK] take the roles of those names; [CLS] and [SEP] together
    also frame what other programs encode: [CLS] A [SEP] B [SEP]. What an objective needs is added by itself."""

    @pydantic.model_validator(mode="after")
    def _fits_the_kind(self) -> TokenizerConfig:
        if self.kind in ("unigram", "char") and self.minimum_count is not None:
            raise ValueError(f"minimum_count has no meaning for kind={self.kind}: leave it out")
        if self.kind == "char" and self.sample_bytes is not None:
            raise ValueError("sample_bytes has no meaning for kind=char, which counts all the text: leave it out")
        if self.cut == "spaces" and self.kind != "word":
            raise ValueError(f"cut=spaces has no meaning for kind={self.kind}: leave it out")
        if self.cut == "characters" and self.kind != "bpe":
            raise ValueError(f"cut=characters has no meaning for kind={self.kind}: leave it out")
        if self.unknown is not None and (self.cut != "spaces" or self.unknown.split() != [self.unknown]):
            raise ValueError(f"unknown={self.unknown!r}: only with cut=spaces, and one word of the text")
        for text in self.specials:
            if not text.strip() or text in (*SPECIALS, UNKNOWN) or self.specials.count(text) > 1:
                raise ValueError(f"specials: {text!r} is empty, given twice, or there already: leave it out")
            if len(text) == 1:
                raise ValueError(f"specials: {text!r} is a character, and text could write it no longer: give a word")
        room, what = (256, "the 256 bytes") if self.kind in ("bpe", "unigram") else (2, "a word")
        least = room + len(SPECIALS) + len(self.specials)
        if self.vocabulary < least:
            raise ValueError(f"vocabulary={self.vocabulary} has no room for {what}: give at least {least}")
        return self

    def with_specials(self, texts: Iterable[str]) -> TokenizerConfig:
        """The same settings with these special tokens too, those that are not there yet."""
        missing = [text for text in texts if text not in self.specials]
        return type(self).parse("tokenizer", {**self.model_dump(by_alias=True), "specials": [*self.specials, *missing]})


def train(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Trains a tokenizer of `config.kind` on a stream of texts, in memory that does not grow with the stream.

    It may come out smaller than asked for where the text offers no more; that is logged.
    Raises UserError when there is no text, or the vocabulary cannot hold the text's own characters.
    """
    backend = _characters(texts, config) if config.kind == "char" else _learned(texts, config)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "pad_token": END,
        **{NAMES[text]: text for text in config.specials if text in NAMES},
        "chat_template": resources.files("yuwen.tokens").joinpath("chatml.j2").read_text(encoding="utf-8"),
    }
    unknown = config.unknown or UNKNOWN
    if backend.token_to_id(unknown) is not None:
        settings["unk_token"] = unknown
    elif config.unknown is not None:
        raise UserError(f"tokenizer.unknown={unknown!r}: the text has no such word; leave it out")
    if {"[CLS]", "[SEP]"} <= set(config.specials):
        settings["add_bos_token"] = False  # the frame is an encoder's: a raw prompt goes on from nothing
        _frame(backend)
    tokenizer = Tokenizer(backend, settings)
    if tokenizer.size > config.vocabulary:
        raise UserError(
            f"tokenizer.vocabulary={config.vocabulary} cannot hold the text's own characters: "
            f"give at least {tokenizer.size}"
        )
    if tokenizer.size < config.vocabulary:
        log.info("vocabulary of %d instead of %d: the text offers no more", tokenizer.size, config.vocabulary)
    return tokenizer


def _frame(backend: Backend) -> None:
    """What other programs put around a text (Devlin et al. 2019, figure 2); `Tokenizer.encode` never does."""
    frame = [(text, backend.token_to_id(text)) for text in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=frame
    )


def training_texts(documents: Iterable[Document]) -> Iterator[str]:
    """Texts as the model will meet them: documents that are lines keep the line break that follows them."""
    return (document.text + ("\n" if document.closing == "line" else "") for document in documents)


def _learned(texts: Iterable[str], config: TokenizerConfig) -> Backend:
    sample = bounded_sample(texts, config.sample_bytes or _SAMPLE_BYTES[config.kind])
    if not any(piece.strip() for piece in sample):
        raise UserError("no text to train a tokenizer on: the data is empty")
    unknown = [] if config.kind in ("bpe", "unigram") or config.unknown else [UNKNOWN]
    specials = [*SPECIALS, *unknown, *config.specials]
    common: dict[str, Any] = {"vocab_size": config.vocabulary, "special_tokens": specials, "show_progress": False}
    bytes_as_letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer: Any
    if config.kind == "bpe":
        backend = Backend(models.BPE())
        trainer = trainers.BpeTrainer(
            **common, min_frequency=config.minimum_count or 2, initial_alphabet=bytes_as_letters
        )
    elif config.kind == "unigram":
        backend = Backend(models.Unigram())
        trainer = trainers.UnigramTrainer(**common, initial_alphabet=bytes_as_letters)
    elif config.kind == "wordpiece":
        backend = Backend(models.WordPiece(unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD))
        # Half of the entries at most go to single characters: rare ones are unknown rather than crowding out words.
        trainer = trainers.WordPieceTrainer(
            **common, min_frequency=config.minimum_count or 2, limit_alphabet=config.vocabulary // 2
        )
    else:
        backend = Backend(models.WordLevel(unk_token=config.unknown or UNKNOWN))
        trainer = trainers.WordLevelTrainer(**common, min_frequency=config.minimum_count or 2)
    kind = {"spaces": "spaced", "characters": "spelled"}.get(config.cut, config.kind)
    prepare(backend, kind)
    if kind in ("bpe", "unigram"):
        backend.pre_tokenizer = by_script(training=True)
    backend.train_from_iterator(sample, trainer)
    prepare(backend, kind)
    return backend


def _characters(texts: Iterable[str], config: TokenizerConfig) -> Backend:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    if not counts:
        raise UserError("no text to train a tokenizer on: the data is empty")
    specials = [*SPECIALS, UNKNOWN, *config.specials]
    common = [character for character, _ in counts.most_common(config.vocabulary - len(specials))]
    vocabulary = {token: number for number, token in enumerate(itertools.chain(specials, sorted(common)))}
    backend = Backend(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    prepare(backend, "char")
    return backend
