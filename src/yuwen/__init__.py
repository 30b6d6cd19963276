"""yuwen 语文: the whole life of a language model, from theory to practice."""

__version__ = "0.1.0"
