"""Where every key of a TOML text stands, for errors that name the line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping

Path = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\n]+")


def key_lines(text: str) -> dict[Path, int]:
    """Return the line, counted from 1, of every key, table header and array entry of a valid TOML text.

    A path is made of keys and, inside arrays, indices. Text that is no TOML gives what was found up to there.

    >>> key_lines('a = 1\\n[b]\\nc = [\\n  { d = 2 },\\n]\\n[[e]]\\nf.g = 3')
    {('a',): 1, ('b',): 2, ('b', 'c'): 3, ('b', 'c', 0): 4, ('b', 'c', 0, 'd'): 4, ('e',): 6, ('e', 0): 6,
    ('e', 0, 'f'): 7, ('e', 0, 'f', 'g'): 7}
    """
    return _Scanner(text).scan()


class _Scanner:
    """One walk over the text; `lines` grows as keys come by."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.lines: dict[Path, int] = {}
        self._entries: dict[Path, int] = {}  # array of tables -> index of its last entry
        self._newlines = [match.start() for match in re.finditer("\n", text)]

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        try:
            while self._skip():
                if self.text.startswith("[", self.at):
                    table = self._header()
                else:
                    self._pair(table)
        except IndexError:  # the text ends in the middle of something
            pass
        return self.lines

    def _skip(self) -> bool:
        """Step over white space and comments; say whether anything is left."""
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        return self.at < len(self.text)

    def _line(self) -> int:
        from bisect import bisect_left

        return bisect_left(self._newlines, self.at) + 1

    def _note(self, path: Path) -> None:
        self.lines.setdefault(path, self._line())

    def _header(self) -> Path:
        several = self.text.startswith("[[", self.at)
        line = self._line()
        self.at += 2 if several else 1
        path: Path = ()
        keys = list(self._keys())
        self.at += 2 if several else 1
        for depth, key in enumerate(keys):
            path = (*path, key)
            self.lines.setdefault(path, line)
            if several and depth == len(keys) - 1:
                self._entries[path] = self._entries.get(path, -1) + 1
            if path in self._entries:
                path = (*path, self._entries[path])
                self.lines.setdefault(path, line)
        return path

    def _keys(self) -> Iterator[str]:
        while True:
            self._skip()
            if self.text[self.at] in "\"'":
                start = self.at
                self._string()
                yield str(tomllib.loads(f"k = {self.text[start : self.at]}")["k"])
            else:
                match = _BARE.match(self.text, self.at)
                if match is None:
                    raise IndexError
                self.at = match.end()
                yield match[0]
            self._skip()
            if not self.text.startswith(".", self.at):
                return
            self.at += 1

    def _pair(self, table: Path) -> None:
        path, line = table, self._line()
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._skip()
        self.at += 1  # the equals sign
        self._value(path)

    def _value(self, path: Path) -> None:
        self._skip()
        first = self.text[self.at]
        if first == "{":
            self.at += 1
            while self._more("}"):
                self._pair(path)
        elif first == "[":
            self.at += 1
            index = 0
            while self._more("]"):
                self._note((*path, index))
                self._value((*path, index))
                index += 1
        elif first in "\"'":
            self._string()
        else:
            match = _SCALAR.match(self.text, self.at)
            if match is None:
                raise IndexError
            self.at = match.end()

    def _more(self, end: str) -> bool:
        """Say whether an array or inline table goes on, past a comma or past its end."""
        self._skip()
        if self.text[self.at] == ",":
            self.at += 1
            self._skip()
        if self.text[self.at] == end:
            self.at += 1
            return False
        return True

    def _string(self) -> None:
        quote = self.text[self.at]
        mark = quote * 3 if self.text.startswith(quote * 3, self.at) else quote
        self.at += len(mark)
        while not self.text.startswith(mark, self.at):
            self.at += 2 if quote == '"' and self.text[self.at] == "\\" else 1
            self.text[self.at]  # an IndexError where the string never ends
        self.at += len(mark)
        while len(mark) == 3 and self.text.startswith(quote, self.at):
            self.at += 1  # up to two quotes may stand before the closing three


def line_of(lines: Mapping[Path, int], path: Path) -> tuple[int | None, int]:
    """Return the line of a path, or of the nearest table around it, and how many of its parts were found.

    >>> line_of({("a",): 3, ("a", "b"): 4}, ("a", "b", "c"))
    (4, 2)
    >>> line_of({("a",): 3}, ("x",))
    (None, 0)
    """
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]], length
    return None, 0
