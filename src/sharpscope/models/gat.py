"""Graph attention network (Veličković et al., 2018) on one graph: hammoud2023 (H3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from sharpscope.errors import InputError
from sharpscope.models.building_blocks import activation_layer

if TYPE_CHECKING:
    from sharpscope.data import Graph
    from sharpscope.models.options import GATOptions


class GAT(nn.Module):
    """Attention layers of torch_geometric over the whole graph, read out at the nodes asked for.

    Every hidden layer has ``heads`` heads of ``hidden`` channels, concatenated, and an activation; the last
    layer has one head of n_outputs channels. Dropout applies to every layer's input and to its attention
    coefficients. The graph is held as non-persistent buffers ``features`` (nodes, d) and ``edge_index``
    (2, edges): it follows the model to a device or dtype and stays out of the checkpoint. On Cora the default
    has 11 565 parameters.
    """

    features: Tensor
    edge_index: Tensor

    def __init__(self, graph: Graph, n_outputs: int, options: GATOptions) -> None:
        super().__init__()
        convolution = _gat_convolution()
        self.register_buffer("features", graph.features.clone(), persistent=False)
        self.register_buffer("edge_index", graph.edge_index.clone(), persistent=False)
        width = graph.features.shape[1]
        layers: list[nn.Module] = []
        for _ in range(options.layers - 1):
            layers.append(convolution(width, options.hidden, heads=options.heads, dropout=options.dropout))
            width = options.hidden * options.heads
        layers.append(convolution(width, n_outputs, heads=1, dropout=options.dropout))
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(options.dropout)
        self.activation = activation_layer(options.activation)

    def forward(self, nodes: Tensor) -> Tensor:
        """Return the logits (n, n_outputs) of nodes (n,), integer indices; every node's state is computed."""
        state = self.features  # (nodes, d)
        for depth, layer in enumerate(self.layers):
            if depth:
                state = self.activation(state)
            state = layer(self.dropout(state), self.edge_index)
        return state[nodes]


def _gat_convolution() -> Any:
    try:
        from torch_geometric.nn import GATConv
    except ImportError as error:
        raise InputError(
            f"The model gat needs torch_geometric, which cannot be imported ({error}); "
            "install it with pip install 'sharpscope[graphs]'."
        ) from error
    return GATConv
