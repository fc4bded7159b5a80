"""Decoder: a small causal transformer over characters or other tokens, as GPT-2 is built (Radford et al. 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sharpscope.models.options import DecoderOptions


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)); each token attends to itself and those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, state: Tensor) -> Tensor:
        """Return the next state (n, tokens, width)."""
        normed = self.norm_attention(state)
        q, k, v = (self._by_head(layer(normed)) for layer in (self.query, self.key, self.value))
        scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5  # (n, heads, tokens, tokens)
        later = torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1)
        attended = scores.masked_fill(later, -torch.inf).softmax(3) @ v  # (n, heads, tokens, depth)
        state = state + self.output(attended.transpose(1, 2).flatten(2))
        mixed: Tensor = state + self.mlp(self.norm_mlp(state))
        return mixed

    def _by_head(self, projected: Tensor) -> Tensor:
        n, tokens, width = projected.shape
        return projected.view(n, tokens, self.heads, width // self.heads).transpose(1, 2)


class Decoder(nn.Module):
    """Embeddings of tokens and positions, blocks, a last normalisation, and the logits of each next token.

    Query, key, value and output are layers of their own. Weights are not shared between embedding and logits.

    >>> from sharpscope.models.options import DecoderOptions
    >>> model = Decoder((8,), 10, DecoderOptions(width=16, layers=1, heads=2))
    >>> model(torch.zeros(3, 8, dtype=torch.int64)).shape
    torch.Size([3, 10, 8])
    """

    def __init__(self, input_shape: tuple[int, ...], n_outputs: int, options: DecoderOptions) -> None:
        super().__init__()
        width = options.width
        self.tokens, self.positions = nn.Embedding(n_outputs, width), nn.Embedding(input_shape[0], width)
        self.blocks = nn.Sequential(*(Block(width, options.heads) for _ in range(options.layers)))
        self.norm, self.logits = nn.LayerNorm(width), nn.Linear(width, n_outputs)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (n, n_outputs, tokens) of the token after each of (n, tokens) integers."""
        at = torch.arange(tokens.shape[1], device=tokens.device)
        state = self.tokens(tokens) + self.positions(at)  # (n, tokens, width)
        logits: Tensor = self.logits(self.norm(self.blocks(state)))
        return logits.transpose(1, 2)
