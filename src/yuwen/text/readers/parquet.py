"""Parquet, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

from yuwen.errors import UserError
from yuwen.text.document import Document
from yuwen.text.file import File
from yuwen.text.readers.record import record

MAGIC = b"PAR1"
_BATCH = 1024


def read(file: File, field: str | None) -> Iterator[Document]:
    """The rows of a Parquet file; a document's line is the number of its row."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{file.name}: needs a package that is not installed; pip install 'yuwen[data]'") from None
    number = 1
    try:
        with pyarrow.parquet.ParquetFile(file.path) as table:
            for batch in table.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    if (document := record(file, number, row, field)) is not None:
                        yield document
                    number += 1
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # a value that Python cannot hold
        reason = (str(error).splitlines() or [""])[0]
        file.problem(number, None, "broken Parquet", f"not readable as Parquet: {reason}", "fetch or write it again")
