"""The text of a study file and the line of each key, so that every refusal names file, line and key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path as PathOnDisk

from sharpscope.errors import InputError
from sharpscope.studies.file.toml_lines import Path, key_lines

_LONGEST = 800
"""Characters of the longest sentence; one that shows a large value, such as a whole table, is cut."""


@dataclass(frozen=True)
class Source:
    """The text of a study file and the layers of it that one study is made of, the topmost first.

    ``origin`` is the name that the user gave, ``folder`` the file's folder (None for a shipped one), ``layers`` the
    paths of the tables that are merged.
    """

    text: str
    origin: str
    folder: PathOnDisk | None = None
    layers: tuple[Path, ...] = ((),)

    def under(self, *layers: Path) -> Source:
        """Return the same text with other layers, the topmost first."""
        return replace(self, layers=layers)

    @cached_property
    def _lines(self) -> Mapping[Path, int]:
        """Every key's line, dotted keys taken apart whether or not they were quoted."""
        lines: dict[Path, int] = {}
        for path, line in key_lines(self.text).items():
            lines.setdefault(_apart(path), line)
        return lines

    def has(self, path: Sequence[str | int]) -> bool:
        """Return whether one of the layers has this very key."""
        return any((*_apart(layer), *_apart(path)) in self._lines for layer in self.layers)

    def line(self, path: Sequence[str | int]) -> int | None:
        """Return the line of a key, or of the longest beginning of its path that a layer has, or None."""
        best: tuple[int, int | None] = (0, None)
        wanted = _apart(path)
        for layer in self.layers:
            start = _apart(layer)
            for length in range(len(wanted), best[0], -1):
                if (line := self._lines.get((*start, *wanted[:length]))) is not None:
                    best = (length, line)
                    break
        if best[1] is None:  # a key that is missing altogether: the table it is missing from
            return next(
                (self._lines[_apart(layer)] for layer in self.layers if _apart(layer) in self._lines), None
            )
        return best[1]

    def refusal(self, path: Sequence[str | int], sentence: str) -> InputError:
        """Return an `InputError` of one sentence that begins with file and line; a long sentence loses its middle."""
        if len(sentence) > _LONGEST:
            sentence = f"{sentence[: _LONGEST // 2]} … {sentence[-_LONGEST // 2 :]}"
        line = self.line(path)
        where = self.origin if line is None else f"{self.origin}, line {line}"
        return InputError(f"{where}: {sentence}")


def path_of(key: str) -> Path:
    """Return a dotted key as a path, its numbers as indices.

    >>> path_of("measures.0.tol")
    ('measures', 0, 'tol')
    """
    return tuple(int(part) if part.isdigit() else part for part in key.split(".") if part)


def quoted_in(sentence: str) -> Path:
    """Return the path of the first key that a sentence has in quotes, an empty one where it has none.

    >>> quoted_in("axis 'optimizer.lr' lists no values")
    ('optimizer', 'lr')
    """
    quoted = re.search(r"'([A-Za-z_][\w.]*)'", sentence)
    return path_of(quoted[1]) if quoted else ()


def leading(sentence: str) -> Path:
    """Return the path of the key that a sentence begins with.

    >>> leading("figures.0.x_scale must be 'linear' or 'log'")
    ('figures', 0, 'x_scale')
    """
    first = re.match(r"[A-Za-z_][\w.]*", sentence)
    return path_of(first[0]) if first else ()


def _apart(path: Sequence[str | int]) -> Path:
    parts: list[str | int] = []
    for part in path:
        parts += part.split(".") if isinstance(part, str) else [part]
    return tuple(parts)
