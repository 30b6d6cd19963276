"""How each kind cuts text before its model sees it, and joins the pieces again. All of it is saved in tokenizer.json.

The byte-level kinds (bpe, unigram) cut by script: digits in groups of at most three, runs of Chinese and Japanese
characters, then words with one leading space, runs of punctuation, line breaks, other spaces. These are the three
expressions that DeepSeek-V3 publishes (arXiv:2412.19437; llama.cpp knows them as `deepseek-v3`): a Chinese run never
shares a token with a Latin word, and a file can be cut in front of any line that starts with no space.
"""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers

# Han, and the Japanese letters that stand among them; rarer Han falls to the letters of _WORDS.
_NUMBERS = r"\p{N}{1,3}"
_HAN = "[一-龥぀-ゟ゠-ヿ]+"
_WORDS = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
# A trainer keeps every distinct piece, at some 32 bytes a byte: no piece it sees is longer than this many characters.
LONGEST_TRAINED = 24
# WordPiece looks for the longest piece from every place on: the work for a word grows with the square of its length at
# least. A longer one (genes, a page of Thai) is cut, so that its length alone makes nothing unknown.
LONGEST_WORD = 512
# WordPiece drops white space; the word kind keeps line breaks, which end its sentences.
_WORDPIECES = rf"\p{{Han}}|[\p{{P}}\p{{S}}]|[^\s\p{{P}}\p{{S}}\p{{Han}}]{{1,{LONGEST_WORD}}}"
_LETTERS = r"[^\s\p{P}\p{S}\p{Han}]+"
_WHOLE_WORDS = rf"\n|\p{{Han}}|{_LETTERS}(?:['’\-]{_LETTERS})*|[\p{{P}}\p{{S}}]"
# Only spaces part words, and line breaks end sentences. The end of <|…|> stands apart: no text writes special tokens.
_SPACED = r"\n|\|>|(?:(?!\|>)\S)+"
# No space beside Chinese, after an opening or before a closing mark, or around a line break.
_NO_SPACE = r"(?<=[\p{Han}\n\p{Ps}\p{Pi}，。、；：？！]) | (?=[\p{Han}\n\p{Pe}\p{Pf}，。、；：？！,.;:?!%])"
EACH_CHARACTER = r"[\s\S]"


def _isolated(pattern: str) -> pre_tokenizers.Split:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def by_script(training: bool) -> pre_tokenizers.PreTokenizer:
    """Cuts by script and turns text into the 256 byte letters; `training` also bounds the pieces' length."""
    splits = [_isolated(_NUMBERS), _isolated(_HAN), _isolated(_WORDS)]
    if training:
        splits.append(_isolated(f"[\\s\\S]{{1,{LONGEST_TRAINED}}}"))
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def prepare(backend: Tokenizer, kind: str) -> None:
    """Gives an empty tokenizer the cutting and joining of its kind."""
    if kind in ("bpe", "unigram"):
        backend.pre_tokenizer = by_script(training=False)
        backend.decoder = decoders.ByteLevel()
    elif kind == "spelled":
        as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([_isolated(EACH_CHARACTER), as_bytes])
        backend.decoder = decoders.ByteLevel()
    elif kind == "char":
        backend.pre_tokenizer = _isolated(EACH_CHARACTER)
        backend.decoder = decoders.Fuse()
    elif kind == "spaced":
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(_SPACED), "removed", invert=True)
        backend.decoder = decoders.Sequence([decoders.WordPiece(prefix="\n\n", cleanup=False), decoders.Fuse()])
    else:
        kept = _WORDPIECES if kind == "wordpiece" else _WHOLE_WORDS
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(kept), "removed", invert=True)
        joined = decoders.WordPiece(prefix="##", cleanup=False)
        backend.decoder = decoders.Sequence([joined, decoders.Fuse(), decoders.Replace(Regex(_NO_SPACE), "")])
