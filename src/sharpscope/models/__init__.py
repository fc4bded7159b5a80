"""Models: every architecture of the five papers, and the user's own by ``package.module:factory``.

Importing this package does not import torch; `build` does.
"""

from sharpscope.models.config import ModelConfig
from sharpscope.models.construction import build
from sharpscope.models.registry import NAMES, ModelInfo, catalogue

__all__ = ["NAMES", "ModelConfig", "ModelInfo", "build", "catalogue"]
