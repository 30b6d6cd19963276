"""GGUF, llama.cpp's file of one model: header, settings, tokenizer and weights together. In and out."""

from __future__ import annotations

from yuwen.interop.gguf.header import GGUFFile
from yuwen.interop.gguf.read import gguf_generation, load_gguf
from yuwen.interop.gguf.tokenizer import gguf_tokenizer
from yuwen.interop.gguf.write import WRITABLE, write_gguf

__all__ = ["WRITABLE", "GGUFFile", "gguf_generation", "gguf_tokenizer", "load_gguf", "write_gguf"]
