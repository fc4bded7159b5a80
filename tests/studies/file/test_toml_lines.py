from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from sharpscope.studies import shipped
from sharpscope.studies.file.toml_lines import key_lines

TEXT = '''
# a comment with a [header] and a = 1
name = "x # no comment" # a comment
"quoted.key" = [ # an array over lines
  "a]", 'b,', """c
"quoted" in a long string""",
  { inside = { deep = [1, 2] }, b = 2 },
]
[run]
stop.epochs = 3
model = { name = "mlp", options = { hidden = [8,
  16] } }
[[claims]]
id = \'\'\'a
b\'\'\'
[claims.where]
lr = 1979-05-27 07:32:00
[[claims]]
[[claims.parts]]
kind = "x"
[[claims.parts]]
kind = "y"
'''

LINES = {
    ("name",): 3,
    ("quoted.key",): 4,
    ("quoted.key", 1): 5,
    ("quoted.key", 2): 5,
    ("quoted.key", 3, "inside", "deep", 1): 7,
    ("run",): 9,
    ("run", "stop", "epochs"): 10,
    ("run", "model", "options", "hidden", 1): 12,
    ("claims", 0, "id"): 14,
    ("claims", 0, "where", "lr"): 17,
    ("claims", 1): 18,
    ("claims", 1, "parts", 1, "kind"): 22,
}


@pytest.mark.parametrize(("path", "line"), LINES.items())
def test_every_key_has_its_line(path: tuple[str | int, ...], line: int) -> None:
    assert key_lines(TEXT)[path] == line


def _paths(content, path=()):
    entries = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in entries:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _paths(value, (*path, key))


@pytest.mark.parametrize("name", [None, *shipped()])
def test_what_is_found_is_what_tomllib_reads(name: str | None) -> None:
    text = TEXT
    if name is not None:
        text = resources.files("sharpscope.studies").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    found = set(key_lines(text))
    read = set(_paths(tomllib.loads(text)))
    assert read <= found
    assert found - read == set()


@pytest.mark.parametrize("text", ["a = [1, ", 'a = "b', "[a", "= 3", "a.b.", "a = {b"])
def test_text_that_breaks_off_is_no_error(text: str) -> None:
    key_lines(text)
