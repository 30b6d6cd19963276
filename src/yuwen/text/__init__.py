"""Files → clean documents: read, check, count, clean, deduplicate."""

from yuwen.text.check import Report, check
from yuwen.text.clean import Cleaner, TextConfig
from yuwen.text.deduplicate import Deduplicator, keys
from yuwen.text.document import Closing, Document
from yuwen.text.problem import Problem
from yuwen.text.rows import FieldsConfig, Row, parse_fields, rows
from yuwen.text.sources import discover, read
from yuwen.text.stats import Stats, stats

__all__ = [
    "Cleaner",
    "Closing",
    "Deduplicator",
    "Document",
    "FieldsConfig",
    "Problem",
    "Report",
    "Row",
    "Stats",
    "TextConfig",
    "check",
    "discover",
    "keys",
    "parse_fields",
    "read",
    "rows",
    "stats",
]
