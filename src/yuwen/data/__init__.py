"""Token ids → batches: corpora and their split, shards, windows in a shuffled order, the resumable loader.

corpus, split    which documents are learnt from, and which only measured
prepare          documents → `Shards`: cleaned, deduplicated, encoded, memory-mapped
Windows          shards → samples of a fixed length, in an order that is a pure function of (seed, position)
prepare_rows     records → `RowShards`: rows of several texts with a label or score, encoded, memory-mapped
Records          rows → batches of like length, each row once an epoch; Frame and padded make an input of them
Streams          shards → rows that read on, window after window, for models that carry a state
Loader           any of them → the batches of one process, from one global position
"""

from __future__ import annotations

from yuwen.data.buckets import Records, Rows, in_order
from yuwen.data.corpus import Corpus, corpus
from yuwen.data.framing import Frame, framed, padded
from yuwen.data.loader import Loader, share_of
from yuwen.data.prepare import prepare
from yuwen.data.records import RAW, RowShards, field_texts, prepare_rows
from yuwen.data.shards import Shards
from yuwen.data.split import by_hash, hash_share, split
from yuwen.data.streams import Streams
from yuwen.data.windows import Sample, Windows

__all__ = [
    "RAW",
    "Corpus",
    "Frame",
    "Loader",
    "Records",
    "RowShards",
    "Rows",
    "Sample",
    "Shards",
    "Streams",
    "Windows",
    "by_hash",
    "corpus",
    "field_texts",
    "framed",
    "hash_share",
    "in_order",
    "padded",
    "prepare",
    "prepare_rows",
    "share_of",
    "split",
]
