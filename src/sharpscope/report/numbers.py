"""How numbers and names are written for readers."""

from __future__ import annotations

from math import floor, isfinite, log10

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")

NAMES = {
    "batch_size": "batch size",
    "epochs": "epochs",
    "gap": "generalisation gap",
    "lr": "learning rate",
    "run_id": "run",
    "stop_reason": "stopped by",
    "train_accuracy": "training accuracy",
    "train_loss": "training loss",
    "validation_accuracy": "validation accuracy",
    "validation_loss": "validation loss",
}
"""Columns whose name is not already what a reader would call it."""


def name_of(column: str) -> str:
    """Return a column's name for readers.

    >>> name_of("lr"), name_of("test_loss"), name_of("rho")
    ('learning rate', 'test loss', 'rho')
    """
    return NAMES.get(column, str(column).replace("_", " "))


def number(value: object, digits: int = 3, *, padded: bool = False) -> str:
    """Write a number with ``digits`` significant digits, whole numbers in full, a missing one as a dash.

    Zeros at the end are left out unless ``padded``, which lines numbers up in a column.

    >>> [number(v) for v in (0.05, -0.12345, 1234567, 2.5e-7, 0.0, float("nan"), 12345.678)]
    ['0.05', '−0.123', '1\u202f234\u202f567', '2.5×10⁻⁷', '0', '–', '12\u202f346']
    """
    if value is None or isinstance(value, str):
        return value or "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    x = float(value)  # type: ignore[arg-type]
    if not isfinite(x):
        return "–" if x != x else ("∞" if x > 0 else "−∞")
    if x == 0:
        return "0"
    size = abs(x)
    if x == round(x) and size < 1e7:
        return _sign(x) + _grouped(round(size))
    exponent = floor(log10(float(f"{size:.{digits - 1}e}")))
    if exponent < -4 or exponent > 6:
        mantissa = f"{size / 10.0**exponent:.{digits - 1}f}".rstrip("0").rstrip(".")
        return f"{_sign(x)}{mantissa}×10{str(exponent).translate(_SUPERSCRIPT)}"
    if exponent >= digits:
        return _sign(x) + _grouped(round(size))
    text = f"{size:.{digits - 1 - exponent}f}"
    return _sign(x) + (text.rstrip("0").rstrip(".") if "." in text and not padded else text)


def coefficient(value: float) -> str:
    """Write a correlation with two decimals.

    >>> coefficient(-0.4249), coefficient(0.001), coefficient(float("nan"))
    ('−0.42', '0.00', '–')
    """
    if not isfinite(value):
        return "–"
    text = f"{abs(value):.2f}"
    return ("−" if value < 0 and text != "0.00" else "") + text


def interval(low: float, high: float) -> str:
    """Write an interval of a correlation, empty where there is none.

    >>> interval(-0.61, -0.2), interval(float("nan"), 0.1)
    ('[−0.61, −0.20]', '')
    """
    return f"[{coefficient(low)}, {coefficient(high)}]" if isfinite(low) and isfinite(high) else ""


def probability(value: float) -> str:
    """Write a p-value with two decimals, or two significant digits if smaller, never as zero.

    >>> probability(0.6), probability(0.00312), probability(2e-9), probability(float("nan"))
    ('0.60', '0.0031', '<0.0001', '–')
    """
    if not isfinite(value):
        return "–"
    return "<0.0001" if value < 1e-4 else f"{value:.2f}" if value >= 0.01 else number(value, 2)


def listed(items: list[str], conjunction: str = "and") -> str:
    """Join items as prose does.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
    ('a', 'a and b', 'a, b and c')
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {conjunction} {items[-1]}"


def counted(n: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun.

    >>> counted(1, "run"), counted(1200, "run"), counted(2, "loss", "losses")
    ('1 run', '1200 runs', '2 losses')
    """
    return f"{number(n)} {noun if n == 1 else plural or noun + 's'}"


def _sign(x: float) -> str:
    return "−" if x < 0 else ""


def _grouped(whole: int) -> str:
    """Group thousands by narrow no-break spaces from five digits on; four read well without."""
    return f"{whole:,}".replace(",", "\u202f") if whole >= 10_000 else str(whole)
