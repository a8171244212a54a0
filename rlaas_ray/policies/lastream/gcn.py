"""The graph network that embeds a dataflow, dense and batched: no library but torch.

Called by agent.py. H' = relu(D^-1/2 (A + A^T + I) D^-1/2 H W + b), three times, the mean over real operators, one linear
layer (Kipf & Welling 2017). Never keeps anything between calls.

`B` graphs, `n` nodes at most, `F` features.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from rlaas_ray.errors import InvalidInput

INPUT, HIDDEN, NODES = 64, (128, 256, 128), 16


def normalised(adjacency: Tensor, mask: Tensor, *, directed: bool = False) -> Tensor:
    """(B, n, n): how much of column's node row's node takes. `adjacency` 1 at [source, target], `mask` (B, n) 1 for real nodes.

    Symmetric: both directions of an edge count. Directed: a node takes from its inputs only, its degree is their number + 1.
    """
    real = mask[:, :, None] * mask[:, None, :]
    ways = adjacency.transpose(1, 2) if directed else torch.maximum(adjacency, adjacency.transpose(1, 2))
    ways = ways * real + torch.diag_embed(mask)
    degree = ways.sum(dim=2)
    scale = torch.where(degree > 0, degree.clamp(min=1.0).rsqrt(), torch.zeros_like(degree))
    return scale[:, :, None] * ways * scale[:, None, :]


class Gcn(nn.Module):
    """Features (B, n, F <= 64), zero-padded to 64 -> 128 -> 256 -> 128, mean over real nodes, linear to `output_dim`."""

    def __init__(self, *, output_dim: int = 64, dropout: float = 0.1, directed: bool = False) -> None:
        super().__init__()
        widths = (INPUT, *HIDDEN)
        own = [nn.Linear(a, b) for a, b in itertools.pairwise(widths)]
        self.layers = nn.ModuleList(own)
        self.out = nn.Linear(widths[-1], output_dim)
        self.dropout = nn.Dropout(dropout)
        self.directed = directed

    def forward(self, features: Tensor, adjacency: Tensor, *, mask: Tensor) -> Tensor:
        """Embeddings (B, output_dim)."""
        if features.shape[2] > INPUT:
            raise InvalidInput("features of operators", given=features.shape[2], expected=f"at most {INPUT}")
        # Nodes by sixteens: matrix products of other sizes may sum in another order, and padding is to change no bit.
        extra = -features.shape[1] % NODES
        hidden = nn.functional.pad(features, (0, INPUT - features.shape[2], 0, extra))
        adjacency, mask = nn.functional.pad(adjacency, (0, extra, 0, extra)), nn.functional.pad(mask, (0, extra))
        passed = normalised(adjacency, mask, directed=self.directed)
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            # The bias comes after the neighbours are mixed, so it is added by hand.
            mixed = passed @ nn.functional.linear(hidden, layer.weight)
            hidden = torch.relu(mixed + layer.bias)
            if number < len(self.layers) - 1:
                hidden = self.dropout(hidden)
        total = (hidden * mask[:, :, None]).sum(dim=1)
        embedding: Tensor = self.out(total / mask.sum(dim=1, keepdim=True).clamp(min=1.0))
        return embedding
