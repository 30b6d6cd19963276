"""Documents → token ids: train and load tokenizers, render chats, look into a vocabulary."""

from yuwen.tokens.chat import Rendered
from yuwen.tokens.stream import StreamDecoder
from yuwen.tokens.tokenizer import Tokenizer
from yuwen.tokens.train import TokenizerConfig, train, training_texts

__all__ = ["Rendered", "StreamDecoder", "Tokenizer", "TokenizerConfig", "train", "training_texts"]
