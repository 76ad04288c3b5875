"""Text-image adapter: CLIP image features of the first frame beside the text, in every cross-attention.

Decoupled cross-attention as in IP-Adapter (Ye et al., arXiv 2308.06721): the image has keys and values of
its own and shares the text's queries and output projection; a gate per channel, zero at initialisation,
lets it in. The resampler is a Perceiver (Alayrac et al., arXiv 2204.14198); widths not given in the paper.
"""

import torch
import torch.nn.functional as F
from torch import nn

from modeling.layers import attend, heads_for


class ResamplerLayer(nn.Module):
    """Latent tokens look at the image tokens and at themselves; then a feed-forward."""

    def __init__(self, width: int, head_dim: int, feed_forward_factor: int) -> None:
        super().__init__()
        self.heads = heads_for(width, head_dim)
        self.norm_queries = nn.LayerNorm(width)
        self.norm_image = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.expand = nn.Linear(width, feed_forward_factor * width)
        self.contract = nn.Linear(feed_forward_factor * width, width)

    def forward(self, queries: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """queries (B, Q, D), image (B, N, D). Gives (B, Q, D)."""
        normed = self.norm_queries(queries)
        context = torch.cat((self.norm_image(image), normed), dim=1)  # (B, N + Q, D)
        key, value = self.to_kv(context).chunk(2, dim=-1)
        queries = queries + self.to_out(attend(self.to_q(normed), key, value, self.heads))
        return queries + self.contract(F.gelu(self.expand(self.norm_feed_forward(queries))))


class Resampler(nn.Module):
    """CLIP vision tokens (B, N, image_dim) -> (B, tokens, width); any N of tokens goes in."""

    def __init__(
        self, image_dim: int, width: int, tokens: int, depth: int, head_dim: int, feed_forward_factor: int = 4
    ) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(1, tokens, width) / width**0.5)
        self.project_in = nn.Linear(image_dim, width)
        self.layers = nn.ModuleList(
            ResamplerLayer(width, head_dim, feed_forward_factor) for _ in range(depth)
        )
        self.norm_out = nn.LayerNorm(width)

    def forward(self, image_tokens: torch.Tensor) -> torch.Tensor:
        image = self.project_in(image_tokens)
        queries = self.queries.expand(len(image), -1, -1)
        for layer in self.layers:
            queries = layer(queries, image)
        return self.norm_out(queries)


class DecoupledAttention(nn.Module):
    """Keys and values of the image for one cross-attention of the image UNet, and the gate."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.to_kv = nn.Linear(width, 2 * channels, bias=False)
        self.gate = nn.Parameter(torch.zeros(channels))  # the branch's one zero

    def forward(
        self, query: torch.Tensor, image: torch.Tensor, keep: torch.Tensor | None, heads: int
    ) -> torch.Tensor:
        """query (B, L, C) of the text attention, image (B, Q, D), keep (B, 1, 1) or None. Gives (B, L, C).

        A sample with keep 0 has values 0 and so gets exactly nothing.
        """
        key, value = self.to_kv(image).chunk(2, dim=-1)
        value = value * self.gate
        return attend(query, key, value if keep is None else value * keep, heads)
