"""A task that says which device it was given."""

from __future__ import annotations

import os


def note_device(payload, context):
    """Write down the devices this worker sees."""
    (context.output / "device.txt").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "not set"))
