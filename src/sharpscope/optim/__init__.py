"""Optimizers that look around before they step, and what variants of them are made of."""

from sharpscope.optim.edge import Edge, edge_of_stability
from sharpscope.optim.sam import SAM
from sharpscope.optim.variants import ASAM, GSAM, FriendlySAM, LookSAM
from sharpscope.optim.vectors import joint_dot, joint_norm

__all__ = [
    "ASAM",
    "GSAM",
    "SAM",
    "Edge",
    "FriendlySAM",
    "LookSAM",
    "edge_of_stability",
    "joint_dot",
    "joint_norm",
]
