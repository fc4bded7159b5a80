"""Print safely wherever the output goes: closed or full, of a narrow encoding, with control characters in names."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
import unicodedata

_SPELLED = {
    "α": "alpha", "β": "beta", "ε": "epsilon", "η": "eta", "θ": "theta", "λ": "lambda", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "∇": "grad ", "Δ": "Delta ", "‖": "|", "²": "^2", "√": "sqrt ", "∞": "inf", "≤": "<=", "≥": ">=",
    "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "·": "*", "±": "+-", "⊘": "/", "₀": "_0", "₁": "_1",
    "₂": "_2", "∈": " in ", "≈": "~", "ü": "ue", "ö": "oe", "ä": "ae", "é": "e",
}  # fmt: skip
"""How a symbol is written where the output's encoding does not have it."""

_HANDLER = "sharpscope.spelled"


def prepare() -> None:
    """Make the standard streams fit to print on; the first thing that the command line does.

    A stream that was closed before the start becomes the null device, so that no file is opened under its number. A
    symbol that the output's encoding does not have is spelled out.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # open for good
    codecs.register_error(_HANDLER, _spell)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors=_HANDLER)  # type: ignore[union-attr]  # a test's stream may not have it


def finish(status: int) -> int:
    """Write out what is still held back; return the exit status, another one where the output takes no more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output has gone, as in `sharpscope data | head -1`
        _silence()
        return 141
    except (OSError, ValueError) as error:
        _silence()
        reason = getattr(error, "strerror", None) or "it is closed"
        say(f"error: the output cannot be written ({reason}); send it somewhere else", error=True)
        return status or 1
    return status


def say(text: str = "", *, error: bool = False) -> None:
    """Print a line on stdout, or on stderr; control characters of stored names are shown as escapes.

    A line for stderr that cannot be written is left out: no message is worth the work that it tells of.
    """
    if not error:
        print(visible(text))
        return
    with contextlib.suppress(OSError, ValueError):
        print(visible(text), file=sys.stderr, flush=True)


def visible(text: str) -> str:
    r"""Return text whose control characters are escapes, newlines and tabs excepted.

    >>> visible("a\x1b[31mred")
    'a\\x1b[31mred'
    """
    if text.isprintable():
        return text
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Zl", "Zp")
        else _escape(char)
        for char in text
    )


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    return "".join(_SPELLED.get(char) or _escape(char) for char in lost), error.end


def _escape(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode() if ord(char) > 127 else f"\\x{ord(char):02x}"


def _silence() -> None:
    """Send stdout to the null device, so that the interpreter's last flush has nothing to complain of."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
