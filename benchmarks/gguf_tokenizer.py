"""Do we cut text to the ids that others give? Lines of files, and lines made up to be hard.

    python benchmarks/gguf_tokenizer.py MODEL.gguf TEXT … [--lines N]                 llama.cpp, of the same file
    python benchmarks/gguf_tokenizer.py MODEL.gguf TEXT … --transformers              transformers, of the same file
    python benchmarks/gguf_tokenizer.py MODEL.gguf TEXT … --published tokenizer.json  as its makers published it

The first needs llama-cpp-python, the second transformers. Prints one JSON document: the lines compared, those that
differ, the first of them; exit status 1 if any does.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tokenizers import Tokenizer as Backend

from yuwen.interop.gguf import gguf_tokenizer
from yuwen.interop.gguf.header import GGUFFile

ODD = [
    " ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\xa0", "\u3000", "\u2009", "\u200b", "\u200d", "\ufeff",
    "\u2028", "。", "，", "！", "……", "《", "》", "、", "!", "?!", "...", "--", "'s", "'LL", "’re", "_",
    "__init__", "::", "=>", "$x", "0", "7", "12", "2024", "1234567", "３４５", "Ⅷ", "½", "٣", "3.14", "a",
    "The", " the", "naïve", "é", "e\u0301", "ﬁ", "ß", "Straße", "Ωμέγα", "Привет", "שלום", "مرحبا",
    "नमस\u094dते", "ไทย", "한국어", "ひらがな", "カタカナ", "中国", "語文", "𠮷野家", "龘", "😀",
    "👩\u200d👩\u200d👧\u200d👦", "🇨🇳", "❤\ufe0f", "🏳\ufe0f\u200d🌈", "🧑🏽", "\x00", "\x07", "\x7f", "\u0378",
    "<b>", "</s>", "<0x0A>", "▁", "▁▁", "Ġ", "Ċ", "def f(x):\n    return x", "{\n\t\"a\": 1\n}",
    "https://a.b/c?d=e&f", "x^2+y^2", "C:\\tmp", "#!", "\u202eabc",
]  # fmt: skip


def hard_lines(count: int, seed: int = 0) -> Iterator[str]:
    """Pieces that tokenizers cut in unlike ways, put together at random, some of them many times."""
    rng = random.Random(seed)
    for _ in range(count):
        parts = rng.choices(ODD, k=rng.randint(1, 12))
        yield "".join(part * rng.choice([1, 1, 1, 1, 2, 3, 17]) for part in parts)


def lines_of(files: list[Path], count: int, seed: int = 0) -> list[str]:
    """Some lines of each file, equally many, with the white space they have."""
    chosen: list[str] = []
    for file in files:
        lines = [line for line in file.read_text(encoding="utf-8", errors="ignore").splitlines(keepends=True) if line]
        chosen += random.Random(seed).sample(lines, min(len(lines), -(-count // len(files))))
    return chosen[:count]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path, nargs="*")
    parser.add_argument("--lines", type=int, default=10_000)
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--transformers", action="store_true", help="compare with transformers instead")
    other.add_argument("--published", type=Path, metavar="tokenizer.json", help="compare with this file instead")
    given = parser.parse_args()
    tokenizer = gguf_tokenizer(GGUFFile(given.model).settings)
    assert tokenizer is not None, "the file has no tokenizer"
    lines = lines_of(given.texts, given.lines * 4 // 5) if given.texts else []
    lines += hard_lines(given.lines - len(lines))
    reference: Callable[[str], list[int]]
    if given.published:
        published = Backend.from_file(str(given.published))
        name, reference = given.published.name, lambda line: published.encode(line, add_special_tokens=False).ids
    elif given.transformers:
        from transformers import AutoTokenizer

        theirs = AutoTokenizer.from_pretrained(given.model.parent, gguf_file=given.model.name)
        name, reference = "transformers", lambda line: theirs.encode(line, add_special_tokens=False)
    else:
        from llama_cpp import Llama

        model = Llama(str(given.model), vocab_only=True, verbose=False)
        name, reference = "llama.cpp", lambda line: model.tokenize(line.encode(), add_bos=False, special=False)
    specials = given.transformers or given.published is not None  # these read special tokens out of any text
    differing = [line for line in lines if tokenizer.encode(line, specials) != reference(line)]
    first = [{"line": x, "ours": tokenizer.encode(x, specials), "theirs": reference(x)} for x in differing[:5]]
    answer = {"model": given.model.name, "reference": name, "lines": len(lines), "differ": len(differing)}
    print(json.dumps({**answer, "first": first}, ensure_ascii=False))
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
