"""Self-attention: PyTorch's fused kernel wherever it is the faster one, and single rows without the matrix."""

from __future__ import annotations

import torch
from timm.layers import Attention as TimmAttention
from torch import Tensor
from torch.nn import functional as F

SHORT_SEQUENCE = 32
"""Up to this many tokens the CPU's fused backward takes longer than the plain products (measured: 1.4 times at 17)."""
LONG_SEQUENCE = 1024
"""Beyond this many tokens inference keeps the fused kernel, whose memory does not grow with their square."""


class Attention(TimmAttention):
    """timm's multi-head self-attention, with its parameters and names: (B, N, D) -> (B, N, D).

    It calls `scaled_dot_product_attention`, except on the CPU in half precision or, in training, on short sequences:
    there the fused kernel is slower than two batched products around a softmax (bf16, forward and backward: 2 times at
    197 tokens, 6 at 65, 10 at 17; forward alone: 1.3 times at 197 and at 785; one core with AVX-512).
    """

    def forward(  # type: ignore[override]  # timm's takes a mask too
        self, x: Tensor
    ) -> Tensor:
        """Tokens to tokens; the softmax runs over all N."""
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        if _plain_is_faster(query):
            weights = torch.matmul(query * self.scale, key.transpose(-2, -1)).softmax(dim=-1)
            mixed = torch.matmul(weights, value)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, scale=self.scale)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


def attention_rows(attn: Attention, normed: Tensor, queries: Tensor) -> Tensor:
    """Softmax of some tokens' logits over all tokens, (B, heads, R, 1+N) float32.

    A key is k = W_k y + b_k, so q.k = (W_k^T q).y + q.b_k, and the last term is the same for every token: softmax does
    not see it. Hence W_k^T q can be held against the tokens themselves, and no key is ever computed.

    Args:
        attn: The block's attention.
        normed: The block's normed tokens, (B, 1+N, D).
        queries: Those of them whose rows are wanted, (B, R, D).
    """
    batch, rows, width = queries.shape
    heads = attn.num_heads
    q_weight, k_weight, _ = attn.qkv.weight.split(width)
    query = F.linear(queries.reshape(batch * rows, width), q_weight, attn.qkv.bias[:width]) * attn.scale
    query = query.view(batch * rows, heads, width // heads).transpose(0, 1)
    query = torch.matmul(query, k_weight.view(heads, -1, width))  # (heads, B * R, d) @ (heads, d, D)
    query = query.view(heads, batch, rows, width).transpose(0, 1).reshape(batch, heads * rows, width)
    weights = torch.matmul(query, normed.transpose(1, 2)).softmax(dim=-1, dtype=torch.float32)
    return weights.view(batch, heads, rows, -1)


def _plain_is_faster(query: Tensor) -> bool:
    if query.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    tokens = query.shape[-2]
    if query.dtype in (torch.bfloat16, torch.float16):
        return query.requires_grad or tokens <= LONG_SEQUENCE
    return query.requires_grad and tokens <= SHORT_SEQUENCE
