"""One text, and so one hash, for each value: the name under which a result is stored and found again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

from sharpscope.errors import InputError

# Above this a float no longer tells neighbouring integers apart; as an integer it would claim digits.
_EXACT_INTEGERS = 2**53


def canonical_json(obj: Any) -> str:
    """Return the one JSON text that stands for a value.

    Keys are sorted, there is no white space, characters outside ASCII are escaped, and tuples are lists.
    Numbers are written by value, not by type: a whole float below 2**53 is written as the integer it equals
    (so ``lr = 1`` and ``lr = 1.0`` are one setting, and ``-0.0`` is ``0``), every other float by the shortest
    digits that read back to the same bits. ``true`` stays apart from ``1``.

    Raises `InputError` naming the place of a NaN, an infinity, a key that is no string, or a value that JSON
    has no form for.

    >>> canonical_json({"lr": 0.10, "batch": 64.0, "name": "sgd"})
    '{"batch":64,"lr":0.1,"name":"sgd"}'
    >>> canonical_json([1e-1, 1, 1.0, True, None])
    '[0.1,1,1,true,null]'
    """
    return json.dumps(_plain(obj, ""), sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(obj: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a value's `canonical_json`.

    >>> content_hash({"lr": 1, "seed": 0}) == content_hash({"seed": 0, "lr": 1.0})
    True
    >>> content_hash({})
    '44136fa355b3678a'
    """
    return hashlib.sha256(canonical_json(obj).encode()).hexdigest()[:16]


def _plain(value: Any, path: str) -> Any:
    """Rebuild `value` from the plain JSON types, refusing by its dotted `path` what JSON cannot hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        number = float(value)  # a NumPy float64 is a float whose repr is not a number's
        if not math.isfinite(number):
            raise InputError(f"{path or 'the value'} is {number}, which JSON cannot hold; make it finite")
        return int(number) if number.is_integer() and abs(number) < _EXACT_INTEGERS else number
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"{path or 'the table'} has the key {key!r}, and keys are text; quote it")
        return {key: _plain(item, f"{path}.{key}" if path else key) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    raise InputError(
        f"{path or 'the value'} is of type {type(value).__name__}, which JSON cannot hold; "
        "give numbers, text, true, false, null, lists or tables"
    )
