"""What sharpscope raises and warns: one root exception, few children.

Every message is one sentence that names the rule, the value received and the remedy. The command line
prints that sentence alone and exits with status 2. The ``require_`` functions check the rules that many
arguments share.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable


class SharpscopeError(Exception):
    """Root of everything sharpscope raises on purpose."""


class InputError(SharpscopeError, ValueError):
    """An argument, a configuration or a file breaks a stated rule."""


class DataError(SharpscopeError):
    """A data set is missing, truncated or not what its name says."""


class StoreError(SharpscopeError):
    """A store of runs cannot be read or written."""


class CheckpointError(SharpscopeError):
    """A checkpoint is missing, corrupt or belongs to another model."""


class NonFiniteError(SharpscopeError, ArithmeticError):
    """A loss, gradient or product is NaN or infinite where a finite value is needed."""


class PartOfDataError(InputError):
    """Something needs all the data in one process and has a part of it."""


class RanksError(SharpscopeError):
    """Several processes measure together, and one of them has failed or died."""


class NotConvergedWarning(UserWarning):
    """An estimate stopped before reaching the requested accuracy; its ``converged`` field says so too."""


class UnusedParameterWarning(UserWarning):
    """A measured parameter has no effect on the loss."""


def require_positive(name: str, value: float, remedy: str) -> None:
    """Raise `InputError` unless ``value`` is positive and finite.

    >>> require_positive("radius", -1.0, "for example 0.05")
    Traceback (most recent call last):
    sharpscope.errors.InputError: radius must be positive and finite, received -1.0; for example 0.05
    """
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{name} must be positive and finite, received {value}; {remedy}")


def require_at_least(name: str, value: float, least: float, remedy: str) -> None:
    """Raise `InputError` unless ``value`` is at least ``least``; NaN is refused as well.

    >>> require_at_least("steps", 0, 1, "the paper's is 5")
    Traceback (most recent call last):
    sharpscope.errors.InputError: steps must be at least 1, received 0; the paper's is 5
    """
    if not value >= least:
        raise InputError(f"{name} must be at least {least}, received {value}; {remedy}")


def require_one_of(name: str, value: object, known: Iterable[object], remedy: str = "choose one") -> None:
    """Raise `InputError` unless ``value`` is one of the ``known`` values.

    >>> require_one_of("norm", "l1", ["linf", "l2"])
    Traceback (most recent call last):
    sharpscope.errors.InputError: norm must be one of linf, l2, received 'l1'; choose one
    """
    choices = list(known)
    if value not in choices:
        raise InputError(
            f"{name} must be one of {', '.join(map(str, choices))}, received {value!r}; "
            f"{suggestion(value, choices)}{remedy}"
        )


def suggestion(value: object, known: Iterable[object]) -> str:
    """Return "did you mean X? " for the known name that is most like a wrong one, or nothing where none is.

    >>> suggestion("lamda_max", ["lambda_max", "trace"]), suggestion("curvature", ["lambda_max", "trace"])
    ('did you mean lambda_max? ', '')
    """
    names = {str(name).lower(): str(name) for name in known}
    close = difflib.get_close_matches(str(value).lower(), names, n=1, cutoff=0.6)
    return f"did you mean {names[close[0]]}? " if close else ""
