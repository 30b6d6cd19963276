"""Token ids → batches: corpora and their split, shards, windows in a shuffled order, the resumable loader.

corpus, split    which documents are learnt from, and which only measured
prepare          documents → `Shards`: cleaned, deduplicated, encoded, memory-mapped
Windows          shards → samples of a fixed length, in an order that is a pure function of (seed, position)
Loader           windows → the batches of one process, from one global position
"""

from __future__ import annotations

from yuwen.data.corpus import Corpus, corpus
from yuwen.data.loader import Loader
from yuwen.data.prepare import prepare
from yuwen.data.shards import Shards
from yuwen.data.split import split
from yuwen.data.windows import Sample, Windows

__all__ = ["Corpus", "Loader", "Sample", "Shards", "Windows", "corpus", "prepare", "split"]
