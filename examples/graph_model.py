"""Curvature of a torch_geometric model: a graph convolutional network on Zachary's karate club.

Run: python examples/graph_model.py   (needs the extra `graphs`; the data come with torch_geometric)
A graph is one batch: its nodes know each other, so it is evaluated whole, and the loss counts its nodes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.datasets import KarateClub
from torch_geometric.nn import GCNConv

import sharpscope as ss


class GCN(nn.Module):
    """Two graph convolutions."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = GCNConv(features, hidden), GCNConv(hidden, classes)

    def forward(self, graph: Data) -> Tensor:
        """Return the logits of every node."""
        hidden = torch.tanh(self.first(graph.x, graph.edge_index))
        return self.second(hidden, graph.edge_index)


def batch_loss(model: nn.Module, graph: Data) -> tuple[Tensor, int]:
    """Return the mean loss over the graph's nodes, and how many there are."""
    return nn.functional.cross_entropy(model(graph), graph.y), graph.num_nodes


def main() -> None:
    """Train, then print the three largest eigenvalues and the trace."""
    torch.manual_seed(0)
    graph = KarateClub()[0]
    model = GCN(graph.num_features, 16, int(graph.y.max()) + 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        loss, _ = batch_loss(model, graph)
        loss.backward()
        optimizer.step()
    obj = ss.Objective.from_batch_loss(model, [graph], batch_loss)
    e = ss.top_eigenvalues(obj, k=3)
    print(f"{obj.size:,} parameters, {obj.n_samples:.0f} nodes, loss {obj.loss():.4f}, 2/η = {2 / 0.5:g}")
    for value, residual, converged in zip(e.values, e.residuals, e.converged, strict=True):
        print(f"{value:10.6f}  residual {residual:.1e}  converged {bool(converged)}")
    t = ss.trace(obj, rtol=0.05)
    print(f"trace {t.value:.3f} ± {t.stderr:.3f}, {e.products} products for the eigenvalues")


if __name__ == "__main__":
    main()
