"""Damage to what has been published: told, named, and no more redone than need be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sharpscope.errors import StoreError
from sharpscope.sweep import Store, Task, read_published, run_tasks
from sharpscope.sweep.store import manifest


@pytest.fixture
def store(tmp_path) -> Store:
    """Return a store of two runs, a measure of each, and one that needs a measure."""
    made = Store(tmp_path / "store")
    run_tasks(made, tasks(), workers=1)
    return made


def tasks():
    runs = [
        Task(f"r{i}", "runs", "sweep.fake_tasks:count", {"steps": 2 + i, "factor": i, "step_seconds": 0})
        for i in (1, 2)
    ]
    measures = [Task(f"m{i}", "measures", "sweep.fake_tasks:write", {"value": i}, (f"r{i}",)) for i in (1, 2)]
    return [*runs, *measures, Task("mm", "measures", "sweep.fake_tasks:write", {"value": 9}, ("m1",))]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def remove(path: Path) -> None:
    path.unlink()


def test_a_manifest_reads_back_and_lists_files_in_folders(store):
    found = manifest.read_manifest(store.path("mm"))
    assert (found.id, found.needs) == ("mm", ("m1",))
    run = manifest.read_manifest(store.path("r2"))
    assert {path: entry.size for path, entry in run.files.items()} == {
        "history/steps.txt": 7,
        "value.txt": 1,
    }
    assert store.find_damage() == {}
    assert read_published(store.path("r2") / "value.txt") == b"8"
    (store.path("r2") / ".DS_Store").write_text("a file browser's")
    assert store.find_damage() == {}


@pytest.mark.parametrize("name", ["value.txt", "history/steps.txt", "MANIFEST"])
@pytest.mark.parametrize("damage", [truncate, flip, grow, remove])
def test_any_change_to_any_file_is_found_and_named(store, name, damage):
    damage(store.path("r1") / name)
    found = store.find_damage(known={"r1"})
    assert list(found) == ["r1"]
    assert found["r1"].startswith(name)
    cheap = store.problem("r1", content=False)
    assert (cheap is None) == (damage is flip and name != "MANIFEST"), "sizes alone show all but flipped bits"
    with pytest.raises(
        StoreError, match=rf"runs/r1 .* is damaged: {name}.*; run 'sharpscope retry .*, then"
    ) as e:
        store.intact("r1")
    assert "\n" not in str(e.value)
    if name == "value.txt" or (name == "MANIFEST" and damage is not remove):
        with pytest.raises(
            StoreError, match=f"is damaged: {name}.*'sharpscope retry {store.root} --damaged'"
        ):
            read_published(store.path("r1") / "value.txt")


def test_every_flipped_bit_of_a_manifest_is_seen(store):
    path = store.path("mm") / "MANIFEST"
    before = path.read_bytes()
    for place in range(len(before)):
        path.write_bytes(before[:place] + bytes([before[place] ^ 4]) + before[place + 1 :])
        assert store.problem("mm") is not None, place
    path.write_bytes(before)
    assert store.problem("mm") is None


def test_the_manifest_of_another_result_is_no_manifest(store):
    shutil.copytree(store.path("r1"), store.root / "runs" / "r3")
    assert store.find_damage() == {"r3": "MANIFEST is that of 'r1'"}


def test_a_folder_that_is_no_result_is_left_alone(store):
    (store.root / "notes" / "mine").mkdir(parents=True)
    assert store.find_damage() == {}
    assert store.find_damage(known={"mine"}) == {"mine": "MANIFEST is missing"}


def test_nothing_is_made_from_what_is_damaged(store):
    flip(store.path("r1") / "value.txt")
    store.remove("m1")
    summary = run_tasks(store, tasks(), workers=1)
    assert (summary.done, summary.skipped, summary.failed) == (0, 4, 1)
    assert "runs/r1 in the store" in summary.failures[0].reason
    assert "value.txt is not what was published" in summary.failures[0].reason


def test_what_was_made_from_a_result_is_known_from_the_manifests_and_beyond(store):
    assert store.made_from(["r1"]) == ["m1", "mm"]
    assert store.made_from(["m2"]) == []
    assert store.made_from(["r2"], {"r1": ("r2",)}) == ["m1", "m2", "mm", "r1"]
    truncate(store.path("m1") / "MANIFEST")
    assert store.made_from(["r1"]) == []
    assert store.made_from(["r1"], {"m1": ("r1",)}) == ["m1", "mm"]


def test_a_task_cannot_write_a_manifest_of_its_own(store):
    task = Task(
        "x", "runs", "sweep.fake_tasks:batch", {"value": 1, "beside": "x1/MANIFEST"}, produces=("x1",)
    )
    assert "a name the store keeps" in run_tasks(store, [task], workers=1).failures[0].reason


def test_what_is_removed_is_made_anew_and_nothing_else(store):
    before = store.path("m2").stat().st_mtime_ns
    for result in ("mm", "r1"):
        store.remove(result)
    assert not store.has("r1")
    with pytest.raises(StoreError, match="holds no result 'r1'"):
        store.remove("r1")
    assert run_tasks(store, tasks(), workers=1).done == 2
    assert store.path("m2").stat().st_mtime_ns == before
    assert store.find_damage() == {}
