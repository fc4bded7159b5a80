"""Named, device-independent random generators.

A seed is the SHA-1 of an identifier, so that it depends on *what* is drawn and never on *when*, on the
device, on the process or on the order of other draws (the protocol of patriarca2024, section II-D).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def seed_of(*identifier: object) -> int:
    """Return the seed that belongs to an identifier, an integer in [0, 2**63).

    The identifier's parts are joined by ``/`` and hashed with SHA-1; the first eight bytes, less the sign
    bit, are the seed.

    >>> seed_of("weights", "mlp", 0)
    7931291833821666362
    >>> seed_of("weights", "mlp", 0) == seed_of("weights/mlp/0")
    True
    """
    digest = hashlib.sha1("/".join(map(str, identifier)).encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*identifier: object) -> torch.Generator:
    """Return a CPU ``torch.Generator`` seeded by `seed_of`; draw on it, then move the draw to the device."""
    import torch

    return torch.Generator().manual_seed(seed_of(*identifier))


def numpy_generator(*identifier: object) -> np.random.Generator:
    """Return a NumPy generator (PCG64) seeded by `seed_of`."""
    import numpy as np

    return np.random.default_rng(seed_of(*identifier))
