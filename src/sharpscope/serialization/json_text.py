"""JSON in one form: the canonical text of a value with its hash, and the encoding of numbers that JSON lacks."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from sharpscope.errors import InputError

# Above this a float no longer tells neighbouring integers apart; as an integer it would claim digits.
_EXACT_INTEGERS = 2**53
_TABLE_END = re.compile(r"(?<=[^{\s,])(\n?)\}\n?\Z")
_SEAL = re.compile(r',\s+"sha256": "[0-9a-f]{64}"(\n?\}\n?)\Z')


def canonical_json(obj: Any, *, by_value: bool = True) -> str:
    """Return the one JSON text that stands for a value.

    Keys are sorted, there is no white space, characters outside ASCII are escaped, and tuples are lists. A float is
    written with the shortest digits that read back to the same bits. With `by_value` a whole float below 2**53 is
    written as the integer it equals, so that ``lr = 1`` and ``lr = 1.0`` are one setting and ``-0.0`` is ``0``;
    without it a float keeps its type, as a validated configuration wants that has one type for each key. ``true``
    is never ``1``.

    Raises `InputError` naming the place of a NaN, an infinity, a key that is no string, or a value that JSON
    has no form for, and for a value nested too deeply to be walked.

    >>> canonical_json({"lr": 0.10, "batch": 64.0, "name": "sgd"})
    '{"batch":64,"lr":0.1,"name":"sgd"}'
    >>> canonical_json([1e-1, 1, 1.0, True, None])
    '[0.1,1,1,true,null]'
    >>> canonical_json([1, 1.0], by_value=False)
    '[1,1.0]'
    """
    if not by_value:
        with contextlib.suppress(TypeError, ValueError, RecursionError):  # told below, with its place
            return json.dumps(obj, sort_keys=True, separators=(",", ":"), allow_nan=False)
    try:
        return json.dumps(_plain(obj, "", by_value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise InputError("the value is nested too deeply for JSON; flatten it") from None


_SLICE = 2**20  # characters that are encoded at a time
_DEEP = 100  # levels of tables and lists up to which a value is looked through without recursion
_LEAVES = (str, int, bool, type(None))


def require_json(value: Any) -> None:
    """Raise `InputError`, as `canonical_json` does, for a value that JSON cannot hold; several times as fast.

    >>> require_json({"lr": 0.1, "hidden": (8, 8)})
    >>> require_json({"lr": float("nan")})
    Traceback (most recent call last):
    sharpscope.errors.InputError: lr is nan, which JSON cannot hold; make it finite
    """
    level = [value]
    for _ in range(_DEEP):
        inside: list[Any] = []
        for one in level:
            kind = type(one)
            if kind is dict and all(type(key) is str for key in one):
                inside.extend(one.values())
            elif kind is list or kind is tuple:
                inside.extend(one)
            elif kind not in _LEAVES and not (kind is float and math.isfinite(one)):
                canonical_json(value)  # another class, such as NumPy's, may do
                return
        if not inside:
            return
        level = inside
    canonical_json(value)


def content_hash(obj: Any, *, by_value: bool = True) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a value's `canonical_json`.

    >>> content_hash({"lr": 1, "seed": 0}) == content_hash({"seed": 0, "lr": 1.0})
    True
    >>> content_hash({})
    '44136fa355b3678a'
    """
    return hashlib.sha256(canonical_json(obj, by_value=by_value).encode()).hexdigest()[:16]


def readable_json(obj: Any) -> str:
    r"""Return a value as JSON for people too: sorted keys, two spaces of indentation, one newline at the end.

    The same value gives the same text. Raises `ValueError` for NaN and infinity; see `json_ready`.

    >>> readable_json({"b": "λ", "a": 1})
    '{\n  "a": 1,\n  "b": "λ"\n}\n'
    """
    text = io.StringIO()  # piece by piece: a list of all pieces takes several times the text's memory
    json.dump(obj, text, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    text.write("\n")
    return text.getvalue()


def seal_json(text: str) -> str:
    r"""Return the text of a JSON table with one more key, ``sha256``: the SHA-256 of the text without it.

    The seal shows whether any byte has changed since; it does not show who wrote the text. Raises `InputError` for a
    text that is no table with a key.

    >>> seal_json('{"a": 1}\n')[:22]
    '{"a": 1, "sha256": "e8'
    >>> unseal_json(seal_json('{\n  "a": 1\n}\n'))
    {'a': 1}
    """
    match = _TABLE_END.search(text)
    if match is None:
        raise InputError(f"only a JSON table with a key can be sealed, received {text[:40]!r}; give a table")
    space = "\n  " if match[1] else " "
    seal = f',{space}"sha256": "{_sha256(text)}"'
    return text[: match.start(1)] + seal + match[0]


def _sha256(text: str) -> str:
    digest = hashlib.sha256()
    for start in range(0, len(text), _SLICE):
        digest.update(text[start : start + _SLICE].encode())
    return digest.hexdigest()


def unseal_json(text: str | bytes) -> dict[str, Any]:
    """Return the table that `seal_json` sealed; `ValueError` for a text that lacks a seal or does not match it."""
    plain = text if isinstance(text, str) else text.decode()
    match = _SEAL.search(plain)
    if match is None:
        raise ValueError("has no SHA-256")
    body = plain[: match.start()] + match[1]
    if seal_json(body) != plain:
        raise ValueError("does not match its own SHA-256")
    content = json.loads(body)
    if not isinstance(content, dict):
        raise ValueError("is no table")
    return content


def json_ready(value: Any) -> Any:
    """Return a value that JSON can hold: NaN becomes null, ±infinity the text ``inf`` or ``-inf``.

    pandas reads both back as the numbers they were. Tuples become lists, keys text, NumPy scalars numbers.

    >>> json_ready({"loss": float("nan"), "ratio": float("-inf"), "n": (1, 2.5)})
    {'loss': None, 'ratio': '-inf', 'n': [1, 2.5]}
    """
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _plain(value: Any, path: str, by_value: bool) -> Any:
    """Rebuild `value` from the plain JSON types; refuse, by its dotted `path`, what JSON cannot hold."""
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
        whole = by_value and number.is_integer() and abs(number) < _EXACT_INTEGERS
        return int(number) if whole else number
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"{path or 'the table'} has the key {key!r}, and keys are text; quote it")
        return {key: _plain(item, f"{path}.{key}" if path else key, by_value) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{i}]", by_value) for i, item in enumerate(value)]
    raise InputError(
        f"{path or 'the value'} is of type {type(value).__name__}, which JSON cannot hold; "
        "give numbers, text, true, false, null, lists or tables"
    )
