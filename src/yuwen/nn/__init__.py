"""The blocks every model is built from. They know nothing of text, optimisers, files or processes.

Tensor names end in their shape, one letter a dimension:

    B  batch                     H  query heads              D  width of the residual stream
    T  positions (queries)       G  key-value heads          F  width inside the feed-forward
    S  positions looked at       K  width of one head        V  vocabulary
    N  B x T positions in a row

A batch is independent along B; `ids_BT` are integers, `h_BTD` hidden states, `logits_BTV` scores.
"""

from yuwen.nn.attention import Attention, ScaledDotProduct
from yuwen.nn.block import ParallelBlock, PostNormBlock, PreNormBlock, SandwichNormBlock
from yuwen.nn.cache import DecoderCache, EncoderDecoderCache, KeyValueCache, MemoryCache, WindowCache
from yuwen.nn.cross import CrossAttention, PostNormCrossBlock, PreNormCrossBlock
from yuwen.nn.cross_entropy import LinearCrossEntropy
from yuwen.nn.dropout import Dropout
from yuwen.nn.embedding import (
    CountedPositions,
    LearnedPositions,
    ScaledTokenEmbedding,
    ShiftedPositions,
    SinusoidalPositions,
    TokenEmbedding,
    TokenHead,
    sinusoids,
)
from yuwen.nn.feedforward import FeedForward, GatedFeedForward
from yuwen.nn.head import HeadTransform, Pooler
from yuwen.nn.linear import Linear, quick_products
from yuwen.nn.mask import Causal, Documents, Everything, Explicit, Mask, Padding, Prefix, Window
from yuwen.nn.memory import SegmentMemory
from yuwen.nn.norm import LayerNorm, OffsetRMSNorm, RMSNorm
from yuwen.nn.position import LinearScaling, Llama3Scaling, Rotary, YarnScaling, rotate
from yuwen.nn.recurrent import LSTM, ElmanRNN, LockedDropout, Recurrence, RecurrentCache, WordDropout
from yuwen.nn.relative import Distances, RelativeAttention, Sight
from yuwen.nn.score import Additive, BiasedDotProduct, RelativeBias
from yuwen.nn.two_stream import TwoStreamBlock

__all__ = [
    "LSTM",
    "Additive",
    "Attention",
    "BiasedDotProduct",
    "Causal",
    "CountedPositions",
    "CrossAttention",
    "DecoderCache",
    "Distances",
    "Documents",
    "Dropout",
    "ElmanRNN",
    "EncoderDecoderCache",
    "Everything",
    "Explicit",
    "FeedForward",
    "GatedFeedForward",
    "HeadTransform",
    "KeyValueCache",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "LinearCrossEntropy",
    "LinearScaling",
    "Llama3Scaling",
    "LockedDropout",
    "Mask",
    "MemoryCache",
    "OffsetRMSNorm",
    "Padding",
    "ParallelBlock",
    "Pooler",
    "PostNormBlock",
    "PostNormCrossBlock",
    "PreNormBlock",
    "PreNormCrossBlock",
    "Prefix",
    "RMSNorm",
    "Recurrence",
    "RecurrentCache",
    "RelativeAttention",
    "RelativeBias",
    "Rotary",
    "SandwichNormBlock",
    "ScaledDotProduct",
    "ScaledTokenEmbedding",
    "SegmentMemory",
    "ShiftedPositions",
    "Sight",
    "SinusoidalPositions",
    "TokenEmbedding",
    "TokenHead",
    "TwoStreamBlock",
    "Window",
    "WindowCache",
    "WordDropout",
    "YarnScaling",
    "quick_products",
    "rotate",
    "sinusoids",
]
