"""Sharpness inside other people's training loops: a monitor, and callbacks that carry it.

`sharpscope.integrations.lightning` and `sharpscope.integrations.transformers` import those libraries and are
imported by name.
"""

from sharpscope.integrations.monitor import SharpnessMonitor
from sharpscope.integrations.trackers import MLflow, TensorBoard, WandB

__all__ = ["MLflow", "SharpnessMonitor", "TensorBoard", "WandB"]
