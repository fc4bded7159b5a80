"""Text that every Python brings along, as sequences of characters: its manual, and the source of its own modules.

Both are real text and need no download; which text exactly depends on Python's version, so that the digest of the
text is one of the data set's notes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sharpscope.data.dataset import Dataset, DatasetInfo, Split
from sharpscope.data.subsets import choose_rows, split_80_20

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sharpscope.data.config import DataConfig

CONTEXT = 64
"""Characters of a sequence."""

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
"""The characters that count, a line's end and printable ASCII; others are dropped."""

TITLES = {
    "python_manual": "The language reference that Python's help() shows",
    "python_source": "The source of six modules of Python's standard library",
}
MODULES = ("argparse", "ast", "inspect", "_pydecimal", "typing", "unittest.mock")


def load_text(config: DataConfig) -> Dataset:
    """Return a text as sequences: inputs (n, 64), numbers of characters, and targets (n, 64), each the next one.

    The text is cut into consecutive sequences that share no character, split 80/20 by ``subset_seed``. Outputs are
    logits (n, 96, 64) over the characters.
    """
    import torch

    text = _text(config.name)
    numbers = np.searchsorted(np.frombuffer(ALPHABET.encode(), np.uint8), np.frombuffer(text, np.uint8))
    count = len(numbers) // (CONTEXT + 1)
    rows = torch.from_numpy(numbers[: count * (CONTEXT + 1)].reshape(count, CONTEXT + 1).astype(np.int64))
    train, test = split_80_20(config.name, count, config.drawn_by)
    chosen = choose_rows(config.name, config.sizes, config.drawn_by, len(train), len(test))

    def split(indices: NDArray[np.int64]) -> Split:
        windows = rows[torch.from_numpy(indices)]
        return Split(windows[:, :-1].clone(), windows[:, 1:].clone())

    digest = hashlib.sha256(text).hexdigest()[:16]
    return Dataset(
        name=config.name,
        task="classification",
        n_outputs=len(ALPHABET),
        input_shape=(CONTEXT,),
        train=split(train[chosen.train]),
        validation=None if chosen.validation is None else split(train[chosen.validation]),
        test=split(test[chosen.test]),
        whole_test=split(test) if config.final_test == "whole" else None,
        standardisation=f"characters by their number in an alphabet of {len(ALPHABET)}",
        notes=(*chosen.notes, f"The text is Python {platform.python_version()}'s, SHA-256 {digest}."),
    )


def describe_text(name: str) -> DatasetInfo:
    """Return the description; the text comes with Python and is always here."""
    count = len(_text(name)) // (CONTEXT + 1)
    return DatasetInfo(
        name=name,
        title=TITLES[name],
        task="classification",
        source="part of Python",
        citation="Python Software Foundation: the Python language reference and standard library",
        licence="PSF licence",
        unit=f"sequences of {CONTEXT} characters",
        total=count,
        train=count * 4 // 5,
        validation=0,
        test=count - count * 4 // 5,
        official_split=False,
        standardisation=f"characters by their number in an alphabet of {len(ALPHABET)}",
        where="Python",
    )


@lru_cache(maxsize=len(TITLES))
def _text(name: str) -> bytes:
    """Return the text in the alphabet's characters."""
    if name == "python_manual":
        from pydoc_data.topics import topics

        text = "\n".join(topics[key] for key in sorted(topics))
    else:
        found = [importlib.util.find_spec(module) for module in MODULES]
        text = "\n".join(
            Path(spec.origin).read_text(encoding="utf-8")
            for spec in found
            if spec is not None and spec.origin
        )
    return re.sub(r"[^\n -~]", "", text).encode("ascii")
