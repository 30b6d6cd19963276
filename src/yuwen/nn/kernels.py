"""softmax(scale Q K^T) V: one sum, and the fastest of four ways to it for the processor, the type and the mask at hand.

nn.fused     C of our own      whole sequences in bfloat16, in compiled training
nn.strips    strips of rows    causal: other training, and bfloat16 prefill, on a CPU
nn.rows      whole rows        both sides, padding at most: bfloat16 on a CPU
PyTorch      its own kernels   everything else
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yuwen.nn import fused
from yuwen.nn.mask import Allowed
from yuwen.nn.rows import whole_attention
from yuwen.nn.strips import causal_attention

_LONGEST = 1024  # beyond this the scores of one layer outgrow the processor's cache, and the flash kernel wins, but for
# dropout, which it cannot do: what PyTorch does then holds all scores several times, and in fp32


def attend(
    q_BHTK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor, allowed: Allowed, *, rate: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attention where `allowed`, its weights dropped out with probability `rate`; `scale` is 1 / sqrt(K).

    q [B, H, T, K], k and v [B, G, S, K], H a multiple of G -> [B, H, T, K].
    """
    B, H, T, K = q_BHTK.shape
    G, S = k_BGSK.shape[1:3]
    causal, table = allowed.causal, allowed.table
    if table is None and fused.suits(q_BHTK, k_BGSK):
        return fused.attention(q_BHTK, k_BGSK, v_BGSK, causal=causal, scale=scale, rate=rate)
    if q_BHTK.device.type == "cpu":
        half = q_BHTK.dtype != torch.float32
        ours = max(T, S) <= _LONGEST or rate > 0
        if causal and ours and (half or q_BHTK.requires_grad):  # fp32 one way only: the flash kernel is faster
            return causal_attention(q_BHTK, k_BGSK, v_BGSK, rate, scale)
        both_sides = not causal and (table is None or table.shape[2] == 1)  # padding at most
        if both_sides and q_BHTK.dtype == torch.bfloat16 and T > 1 and ours:
            keep_BS = None if table is None else table[:, 0, 0].expand(B, -1)
            return whole_attention(q_BHTK, k_BGSK, v_BGSK, keep_BS, rate, scale)
    if T == 1 and not causal:  # the queries that share a key as rows: in bfloat16 a fifth of the time
        q_BHTK = q_BHTK.reshape(B, G, H // G, K)
    mixed_BHTK = F.scaled_dot_product_attention(
        q_BHTK,
        k_BGSK,
        v_BGSK,
        attn_mask=table,
        dropout_p=rate,
        is_causal=causal,
        scale=scale,
        enable_gqa=q_BHTK.shape[1] != G,
    )
    return mixed_BHTK.view(B, H, T, K)
