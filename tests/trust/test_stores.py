"""Stores from someone else run no code, reach nothing outside and open no connection."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sharpscope.errors import StoreError
from sharpscope.serialization import readable_json, seal_json
from sharpscope.sweep import Store
from sharpscope.sweep.store import manifest
from small_store import OTHER_RUN, RUN
from trust.marks import STUDY, untouched


def rewrite_study(store: Store, **changes: object) -> None:
    """Put changes into ``study.json``, with the seal of someone who knows how to make one."""
    study = {**store.read_study(), **changes}
    (store.root / "study.json").write_text(seal_json(readable_json(study)))


def republish(folder: Path) -> None:
    """Give a result's folder a manifest of what it holds now."""
    (folder / manifest.NAME).unlink(missing_ok=True)
    (folder / manifest.NAME).write_text(manifest.describe(folder, folder.name).text())


READING = (
    ("status",),
    ("status", "--verify"),
    ("export", "--output", "tables"),
    ("report", "--output", "page"),
)


def test_reading_a_store_imports_nothing_and_opens_no_connection(
    cli, folder: Path, store: Store, no_network
) -> None:
    study = store.read_study()
    rewrite_study(store, source=STUDY.format(model="evil:make", options=""), origin="evil:make")
    for run in study["runs"]:
        path = store.path(run["id"]) / "config.json"
        path.write_text(path.read_text().replace('"name": "mlp"', '"name": "evil:make"'))
        assert "evil:make" in path.read_text()
        republish(path.parent)
    for name, *options in READING:
        code, _, err = cli(name, store.root, *options)
        assert code == 0, (name, err)
    assert "Traceback" not in cli("league", store.root)[2], "two runs are too few for it"
    assert untouched(folder)
    page = (folder / "page" / "index.html").read_text()
    assert "Content-Security-Policy" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": "../../outside"},
        {"scale": "x/../../outside"},
        {"key": ".."},
        {"key": "../outside"},
        {"key": "a/../../outside"},
        {"key": "/tmp/outside"},
        {"name": "..", "title": ""},
        {"runs": [{"id": "../../outside", "configuration": "x", "settings": {}}]},
        {"runs": [{"id": "/etc", "configuration": "x", "settings": {}}]},
        {"measures": [{"id": "a\\..\\b", "run": RUN, "label": "x", "of": "x"}]},
        {"tasks": {RUN: "../../outside"}},
        {"views": [{"id": "x", "kind": "y", "name": "z", "runs": [".."]}]},
        {"runs": 7},
        {"axes": [None]},
        {"claims": "import os"},
        {"added": 1},
    ],
)
def test_names_in_a_store_lead_nowhere_outside(
    cli, folder: Path, store: Store, changes: dict[str, object]
) -> None:
    (folder / "inner").mkdir()
    before = sorted(path for path in folder.rglob("*") if "inner" not in path.parts)
    record = store.read_study()
    for study in ({**record, **changes}, {"studies": [{**record, "key": "other"}, {**record, **changes}]}):
        (store.root / "study.json").write_text(seal_json(readable_json(study)))
        for command in ("status", "export", "report"):
            output = () if command == "status" else ("--output", "inner/a/b")
            code, _, err = cli(command, store.root, *output)
            assert (code, err.count("\n")) == (2, 1), (command, err)
            assert "study.json is damaged at " in err
    assert sorted(path for path in folder.rglob("*") if "inner" not in path.parts) == before


@pytest.mark.parametrize(
    "name", ["runs", "tmp", "work", "leases", "failures", "report", "study.json", "report/tables"]
)
def test_a_link_in_a_store_is_not_followed(cli, folder: Path, store: Store, name: str) -> None:
    outside = folder / "outside"
    place = store.root / name
    place.parent.mkdir(exist_ok=True)
    if place.exists():
        place.rename(outside)
    else:
        outside.mkdir()
        (outside / "precious@x.0a0a0a-1-1").write_text("kept")
    place.symlink_to(outside)
    before = sorted(outside.rglob("*"))
    for command in ("status", "report", "export", "gc", "retry"):
        options = {"export": ("--output", "tables"), "gc": ("--other-machines",), "retry": ("--damaged",)}
        code, _, err = cli(command, store.root, *options.get(command, ()))
        assert code == 2
        assert "is a symbolic link, and a store holds none" in err
    assert sorted(outside.rglob("*")) == before


def test_a_result_that_leads_outside_is_damaged(cli, folder: Path, store: Store) -> None:
    outcome = store.path(RUN) / "outcome.json"
    outside = folder / "outcome.json"
    outcome.rename(outside)
    outcome.symlink_to(outside)
    code, out, _ = cli("status", store.root, "--verify")
    assert (code, f"damaged: runs/{RUN}: outcome.json is no ordinary file" in out) == (1, True)
    assert cli("export", store.root, "--output", "tables")[0] == 2
    with pytest.raises(StoreError, match="no ordinary file"):
        store.intact(RUN)
    other = store.root / "runs" / OTHER_RUN
    other.rename(folder / "elsewhere")
    other.symlink_to(folder / "elsewhere")
    assert OTHER_RUN not in store.published()
    assert not store.has(OTHER_RUN)
    assert not store.has("../runs/" + RUN)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_a_store_does_not_hold_a_reader_up(cli, folder: Path, store: Store) -> None:
    outcome = store.path(RUN) / "outcome.json"
    outcome.unlink()
    os.mkfifo(outcome)
    assert cli("status", store.root, "--verify")[0] == 1
    code, _, err = cli("export", store.root, "--output", "tables")
    assert code == 2
    assert "no ordinary file" in err


@pytest.mark.parametrize("path", ["../../../outside", "/etc/passwd", "a/../../b", ".."])
def test_a_manifest_names_no_file_outside_its_result(cli, folder: Path, store: Store, path: str) -> None:
    entry = manifest.Entry(0, "0" * 64)
    (store.path(RUN) / "MANIFEST").write_text(manifest.Manifest(RUN, {path: entry}).text())
    code, out, _ = cli("status", store.root, "--verify")
    assert code == 1
    assert "names a file outside the result" in out


def test_a_parquet_bomb_in_a_store_is_refused(cli, folder: Path, store: Store, monkeypatch) -> None:
    from sharpscope.serialization import parquet

    monkeypatch.setattr(parquet, "_free_memory", lambda: 2**22)
    monkeypatch.setattr(parquet, "_HARMLESS", 2**20)
    path = store.path(RUN) / "history.parquet"
    pq.write_table(pa.table({"epoch": pa.array([1]).take(pa.array([0] * 1_000_000))}), path)
    assert path.stat().st_size < 5000
    republish(path.parent)
    code, _, err = cli("export", store.root, "--output", "tables")
    assert code == 2
    assert f"retry {store.root} {RUN}" in err


def test_removing_follows_no_link(cli, folder: Path, store: Store) -> None:
    precious = folder / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    (store.path(RUN) / "more").symlink_to(precious)
    assert cli("retry", store.root, RUN)[0] == 0
    assert (precious / "file").read_text() == "kept"
