"""Damage to what has been published: told, named, and no more redone than need be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sharpscope.errors import StoreError
from sharpscope.sweep import Store, Task, find_damage, made_from, read_published, run_tasks
from sharpscope.sweep.store import manifest
from sharpscope.sweep.store import store as store_module


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
    assert find_damage(store) == {}
    assert read_published(store.path("r2") / "value.txt") == b"8"
    (store.path("r2") / ".DS_Store").write_text("a file browser's")
    assert find_damage(store) == {}


@pytest.mark.parametrize("name", ["value.txt", "history/steps.txt", "MANIFEST"])
@pytest.mark.parametrize("damage", [truncate, flip, grow, remove])
def test_any_change_to_any_file_is_found_and_named(store, name, damage):
    damage(store.path("r1") / name)
    found = find_damage(store, known={"r1"})
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
    assert find_damage(store) == {"r3": "MANIFEST is that of 'r1'"}


def test_a_folder_that_is_no_result_is_left_alone(store):
    (store.root / "notes" / "mine").mkdir(parents=True)
    assert find_damage(store) == {}
    assert find_damage(store, known={"mine"}) == {"mine": "MANIFEST is missing"}


def test_nothing_is_made_from_what_is_damaged(store):
    flip(store.path("r1") / "value.txt")
    store.remove("m1")
    summary = run_tasks(store, tasks(), workers=1)
    assert (summary.done, summary.skipped, summary.failed) == (0, 4, 1)
    assert "runs/r1 in the store" in summary.failures[0].reason
    assert "value.txt is not what was published" in summary.failures[0].reason


def test_what_was_made_from_a_result_is_known_from_the_manifests_and_beyond(store):
    assert made_from(store, ["r1"]) == ["m1", "mm"]
    assert made_from(store, ["m2"]) == []
    assert made_from(store, ["r2"], {"r1": ("r2",)}) == ["m1", "m2", "mm", "r1"]
    truncate(store.path("m1") / "MANIFEST")
    assert made_from(store, ["r1"]) == []
    assert made_from(store, ["r1"], {"m1": ("r1",)}) == ["m1", "mm"]


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
    assert find_damage(store) == {}


FORMAT_1 = Path(__file__).parents[1] / "stores" / "format1"


def test_a_store_of_format_1_is_read_as_it_is_and_migrated_when_written_to(tmp_path):
    shutil.copytree(FORMAT_1, tmp_path / "store")
    before = {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()}
    old = Store(tmp_path / "store", create=False)
    assert old.version == 1
    assert len(old.published()) == 4
    run = old.path("c827d90949bfe61e")
    assert read_published(run / "outcome.json") == (run / "outcome.json").read_bytes()
    assert old.intact(run.name) == run
    assert find_damage(old) == {}
    assert {path: path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file()} == before

    old.prepare()
    new = Store(tmp_path / "store")
    assert (old.version, new.version) == (2, 2)
    assert find_damage(new, known=new.published()) == {}
    assert len(list(new.root.glob("*/*/MANIFEST"))) == 4
    for path, content in before.items():
        assert path.name == "sharpscope.json" or path.read_bytes() == content
    truncate(run / "checkpoint.safetensors")
    assert "has 2227 bytes and was published with 2228" in new.problem(run.name, content=False)


def test_a_migration_that_is_cut_off_is_taken_up_again(tmp_path, monkeypatch):
    shutil.copytree(FORMAT_1, tmp_path / "store")
    real, left = store_module.migrate.__globals__["write_whole"], [2]

    def cut_off(*args, **options):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*args, **options)

    monkeypatch.setitem(store_module.migrate.__globals__, "write_whole", cut_off)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path / "store").prepare()
    half = Store(tmp_path / "store")
    assert half.version == 1
    assert len(list(half.root.glob("*/*/MANIFEST"))) == 2
    assert find_damage(half) == {}
    monkeypatch.undo()
    half.prepare()
    assert Store(half.root).version == 2
    assert find_damage(half, known=half.published()) == {}
    assert list(half.root.glob("tmp/*")) == []
