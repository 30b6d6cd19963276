"""A tokenizer's vocabulary as the grammar library wants it: the bytes that each id adds to a text."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from llguidance import LLTokenizer, TokenizerWrapper

from yuwen.tokens import Tokenizer


class Spelling(TokenizerWrapper):
    """The forms that ids take in a text.

    Where pieces simply follow each other (byte-level and SentencePiece vocabularies, characters) an id has one form.
    Word vocabularies (wordpiece, word) leave spaces out: there an id that begins a word has two, `word` and ` word`,
    those with a space laid behind the others. The last entry stands for every end token; special and unknown tokens
    add nothing, and so no grammar ever allows them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.is_tokenizer_wrapper = True  # by this, and by tokens and their ids below, llguidance knows it
        self._tokenizer = tokenizer
        self.size = tokenizer.size
        self.spaced = tokenizer.kind in ("wordpiece", "word")
        silent = {*tokenizer.special_ids, tokenizer.unknown_id}
        self.forms = [b"" if id in silent else tokenizer.token_bytes(id) for id in range(self.size)]
        if self.spaced:
            starts = [bool(form) and (len(form) == 2 or not form.startswith(b"##")) for form in self.forms]
            pairs = list(zip(starts, self.forms, strict=True))
            self.forms = [form if start else form[2:] for start, form in pairs]
            self.forms += [b" " + form if start else b"" for start, form in pairs]
        self.complete = {bytes([byte]) for byte in range(256)} <= set(self.forms)  # any text at all can be spelled
        self.end = len(self.forms)
        self.tokens = [*self.forms, b"<end>"]
        self.eos_token_id, self.bos_token_id, self.special_token_ids = self.end, None, [self.end]
        self.vocabulary = LLTokenizer(self, slices=[])

    def __call__(self, text: str) -> list[int]:
        """Ids that make up a text: the tokenizer's own, unless it puts a space in front."""
        ids = self._tokenizer.encode(text)
        if b"".join(self.forms[id] for id in ids) == text.encode():
            return ids
        return self.vocabulary.greedy_tokenize(text)


def apart(before: str, word: str) -> bool:
    """Whether text has a space between a character and the word after it: not beside Chinese, nor in front of marks."""
    return (_western(before) or before in tuple(",.;:?!")) and _western(word[:1])


def _western(character: str) -> bool:
    return character.isalnum() and not "\u2e80" <= character <= "\uffef"


_SPELLINGS: WeakKeyDictionary[Tokenizer, Spelling] = WeakKeyDictionary()


def spelling_of(tokenizer: Tokenizer) -> Spelling:
    """The spelling of a tokenizer, made once: a large vocabulary takes half a second."""
    if tokenizer not in _SPELLINGS:
        _SPELLINGS[tokenizer] = Spelling(tokenizer)
    return _SPELLINGS[tokenizer]
