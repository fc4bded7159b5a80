"""The tables that commands print: at any width every value is whole."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import sharpscope.cli
from cli.test_league import pool
from sharpscope.cli import printing
from sharpscope.studies.results import pool as pooling
from small_store import small_store

Table = tuple[list[str], list[list[object]], list[int]]

NETWORK = ("mlp", "--data", "digits", "--samples", 40, "--option", "hidden=[3]")
COMMANDS: dict[str, list[tuple[Any, ...]]] = {
    "catalogue": [("data",), ("models",), ("measures",), ("studies", "kaur2022", "--no-cost")],
    "examine": [
        ("examine", *NETWORK, "--k", 1, "--without", "surface,audit,density,worst_case", "-o", "page.html")
    ],
    "measure": [("measure", *NETWORK, "--measures", "lambda_max,average_direction,gradient_norm")],
    "audit": [("audit", *NETWORK, "--measures", "gradient_norm,path_norm", "--repetitions", 1)],
    "plan": [("plan", "kaur2022/fig1", "--scale", "smoke", "--noise", "0.01", "--seeds", "3,5,8")],
    "status": [("status", "store")],
    "league": [("league", "store")],
}
"""The commands that print tables, by the file of ``sharpscope.cli`` that they stand in."""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Table]]:
    """Run every command once, and return what each asked to be printed as a table."""
    found: dict[str, list[Table]] = {}
    folder = tmp_path_factory.mktemp("tables")
    small_store(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(pooling, "pool_stores", pool)

        def record(headers: Any, rows: Any, right: Any = ()) -> None:
            found[file].append((list(headers), [list(row) for row in rows], list(right)))

        patch.setattr(printing, "print_table", record)
        for file, calls in COMMANDS.items():
            found[file] = []
            for call in calls:
                patch.setattr("sys.argv", ["sharpscope", *map(str, call)])
                with pytest.raises(SystemExit) as stop:
                    sharpscope.cli.main()
                assert stop.value.code in (0, None), call
    return found


def shown(table: Table, columns: int | None, monkeypatch, capsys) -> list[str]:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    capsys.readouterr()
    printing.print_table(*table)
    return capsys.readouterr().out.splitlines()


def words(table: Table) -> Counter[str]:
    _headers, rows, _right = table
    return Counter(word for row in rows for cell in row for word in str(cell).split())


def test_every_command_that_prints_a_table_is_tried():
    folder = Path(printing.__file__).parent
    users = {
        path.stem
        for path in folder.glob("*.py")
        if re.search(r"print_table\(", path.read_text(encoding="utf-8"))
    }
    assert users - {"printing"} == set(COMMANDS)


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("file", COMMANDS)
def test_no_value_is_cut(printed, file: str, columns: int, monkeypatch, capsys):
    assert printed[file]
    for table in printed[file]:
        lines = shown(table, columns, monkeypatch, capsys)
        text = Counter(word for line in lines for word in line.split())
        assert words(table) - text == Counter()
        headers = len(table[0]) and max(map(len, table[0]))
        for line in lines:  # only a word that is too long for the terminal by itself goes over its edge
            assert len(line) <= columns or max(map(len, line.split())) > columns - headers - 4, line


@pytest.mark.parametrize("file", COMMANDS)
def test_a_row_is_one_line_in_a_pipe(printed, file: str, monkeypatch, capsys):
    for table in printed[file]:
        lines = shown(table, None, monkeypatch, capsys)
        assert len(lines) == 1 + len(table[1])
        for line, row in zip(lines[1:], table[1], strict=True):
            assert line.split() == [word for cell in row for word in str(cell).split()]


def test_a_number_and_its_interval_stay_together(monkeypatch, capsys):
    rows: list[list[object]] = [
        [f"measure_{i}", "+0.42 [+0.10, +0.66]", "a few words that may wrap"] for i in range(3)
    ]
    for columns in (20, 40, 50, 60, 200):
        lines = shown((["name", "interval", "note"], rows, []), columns, monkeypatch, capsys)
        assert sum("+0.42 [+0.10, +0.66]" in line for line in lines) == 3


@pytest.mark.parametrize("columns", ["0", "-3", "wide", "1"])
def test_an_odd_width_is_survived(columns: str, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    printing.print_table(["a", ""], [["x" * 50, "word [bold]not markup[/bold]"], ["", ""]])
    assert "markup[/bold]" in capsys.readouterr().out


def test_a_table_without_rows_is_its_header(monkeypatch, capsys):
    assert shown((["name", "value"], [], []), 60, monkeypatch, capsys) == ["name  value"]
