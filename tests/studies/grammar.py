"""Study files made at random: a valid file of every section, with values, keys and tables changed for odd ones."""

from __future__ import annotations

import copy
import datetime
import json
import tomllib
from typing import Any

from hypothesis import strategies as st

from studies.mini_paper import MINI

KEYS = [
    *(
        "name",
        "id",
        "kind",
        "where",
        "a",
        "b",
        "of",
        "measure",
        "measures",
        "seed",
        "lr",
        "x",
        "y",
        "by",
        "within",
    ),
    *(
        "scales",
        "values",
        "grid",
        "run",
        "cases",
        "claims",
        "figures",
        "tracks",
        "options",
        "data",
        "model",
        "stop",
    ),
    *(
        "samples",
        "points",
        "match",
        "baseline",
        "direction",
        "statement",
        "run_id",
        "status",
        "gap",
        "test_loss",
    ),
    *(
        "requires",
        "matters",
        "title",
        "covers",
        "objective",
        "every",
        "batch_size",
        "epochs",
        "path",
        "experiments",
    ),
]
EXPRESSIONS = [
    "1/0",
    "9**9**9**9",
    "'x'*999999999",
    "log(lr",
    "lr/",
    "__import__('os')",
    "$small",
    "$none",
    "2/lr",
    "-" * 900,
]
NUMBERS = [0, -1, 1, 2, 7, 10**18, 10**30, 0.5, -0.5, 1e-320, 1e308, float("inf"), float("nan"), 3.0]
TEXTS = ["", " ", "none", "learning_rate", "lambda_max", "lr", "gap", "run_id", "digits", "mlp", "os:system",
         "../up", "/etc/passwd", "é λ", "\x1b[31m", "a\nb", "=1+1", "full", "trend", "all", "paired", "seed",
         "epoch"]  # fmt: skip
ODD: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([*NUMBERS, *TEXTS, *EXPRESSIONS, True, False, datetime.date(2020, 2, 2), [], {}])
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, width=32)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
ENDS = {"a": {"lr": 0.05}, "b": {"lr": 0.2}}
CLAIMS: list[dict[str, Any]] = [
    {"kind": "paired", "y": "test_loss", "direction": "greater", **ENDS},
    {"kind": "flat", "x": "lr", "y": "lambda_max", "margin": 0.1, "within": ["batch_size"]},
    {"kind": "bound", "low_side": "lambda_max", "high_side": "2/lr"},
    {"kind": "crossing", "x": "batch_size", "y": "lambda_max", "low": "greater", **ENDS},
    {"kind": "optimum", "x": "lr", "y": "test_loss", "then": "falls"},
    {"kind": "correlation", "x": "lambda_max", "y": "test_loss", "sign": 1},
    {"kind": "matched", "y": "test_loss", "match_on": "lambda_max", "direction": "greater", **ENDS},
    {"kind": "interaction", "x": "lr", "y": "lambda_max", "by": "batch_size", "direction": "rising"},
    {"kind": "variance_ratio", "y": "test_loss", "direction": "greater", **ENDS},
    {"kind": "curve", "x": "lr", "y": "lambda_max", "curve": "2/lr", "tolerance": 0.3},
    {
        "kind": "all",
        "claims": [
            {"kind": "trend", "x": "lr", "y": "gap", "direction": "rising"},
            {"kind": "flat", "x": "lr", "y": "gap", "margin": 0.1},
        ],
    },
]
BASE: dict[str, Any] = tomllib.loads(MINI)
for number, claim in enumerate(CLAIMS):
    BASE["experiments"][0]["claims"].append({"id": f"Y{number}", "statement": "Something.", **claim})


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value of a table."""
    found = [path] if path else []
    if isinstance(content, dict):
        for key, value in content.items():
            found += places(value, (*path, key))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            found += places(value, (*path, index))
    return found


@st.composite
def study_files(draw: st.DrawFn) -> str:
    """Return the text of a study file: the valid one with up to three changes."""
    content = copy.deepcopy(BASE)
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 1, 2, 3]))):
        path = draw(st.sampled_from(places(content)))
        table = content
        for key in path[:-1]:
            table = table[key]
        change = draw(st.sampled_from(["value", "value", "value", "remove", "rename", "add", "twice"]))
        if change == "value":
            table[path[-1]] = draw(ODD)
        elif change == "remove":
            del table[path[-1]]
        elif change == "twice" and isinstance(table, list):
            table.append(copy.deepcopy(table[path[-1]]))
        elif isinstance(table, dict):
            table[draw(st.sampled_from(KEYS))] = table.pop(path[-1]) if change == "rename" else draw(ODD)
    text = "".join(f"{quoted(key)} = {toml(value)}\n" for key, value in content.items())
    if draw(st.integers(0, 9)) == 0:  # and text that is no TOML any more, or barely
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 20)))
        text = (
            text[:start]
            + draw(st.sampled_from(["", "[", "]", '"', "=", "[[", "\n", "{", "#", "[" * 3000]))
            + text[stop:]
        )
    return text


def toml(value: Any) -> str:
    """Return a value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    return (
        {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value).replace("e+", "e")
    )


def quoted(text: str) -> str:
    """Return text as a basic string of TOML."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
