"""What a store keeps of its studies: what is read back is what a run writes, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharpscope import StoreError
from sharpscope.studies import collect_all, load_study, make_plan, write_tables
from sharpscope.studies.results.records import keep_records, read_records
from sharpscope.sweep import Store
from small_store import STUDY, small_store


def change(store: Store, key: str, value: Any) -> None:
    study = store.read_study()
    assert study is not None
    store.write_study({**study, key: value})


DAMAGE: dict[str, Callable[[Store], None]] = {
    # each with a checksum that is right, as a store has that somebody made with intent
    "another table": lambda store: store.write_study({"a": 1}),
    "a list": lambda store: store.write_study({"studies": [3]}),
    "no list": lambda store: store.write_study({"studies": 3}),
    "a scale that leads out": lambda store: change(store, "scale", "../../../out"),
    "a name that leads out": lambda store: change(store, "key", "../../out"),
    "a run without an id": lambda store: change(store, "runs", [{"configuration": "x", "settings": {}}]),
    "an id that leads out": lambda store: change(
        store, "runs", [{"id": "../x", "configuration": "", "settings": {}}]
    ),
    "axes that are no list": lambda store: change(store, "axes", 3),
    "figures that are none": lambda store: change(store, "figures", [{"id": "f"}]),
    "an objective of another part": lambda store: change(store, "objective", {"part": "validation"}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_record_that_no_run_writes_is_refused_and_nothing_is_written(damage: str, tmp_path: Path) -> None:
    store = small_store(tmp_path / "inside")
    (tmp_path / "inside" / "tables").mkdir()
    DAMAGE[damage](store)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError, match=r"study\.json is damaged at .*; remove it and run the study again"):
        write_tables(collect_all(store), tmp_path / "inside" / "tables", "csv")
    assert sorted(tmp_path.rglob("*")) == before


def plan_of(folder: Path, file: str, text: str) -> Any:
    (folder / file).write_text(text)
    return make_plan(load_study(folder / file))


def test_another_study_of_the_same_name_does_not_take_its_place(tmp_path: Path) -> None:
    store = small_store(tmp_path)
    other = plan_of(tmp_path, "other.toml", STUDY.replace("epochs = 2", "epochs = 3"))
    with pytest.raises(
        StoreError, match=r"another study of the name two, from \S*two\.toml, and none of its 2 runs"
    ):
        keep_records(store, [other.record()])
    grown = plan_of(tmp_path, "grown.toml", STUDY.replace("[0.1, 0.3]", "[0.1, 0.2]"))
    keep_records(store, [grown.record()])  # it shares a run
    changed = plan_of(tmp_path, "grown.toml", STUDY.replace("epochs = 2", "epochs = 3"))
    keep_records(store, [changed.record()])  # the same file, changed
    assert [record["origin"] for record in read_records(store)] == [str(tmp_path / "grown.toml")]
