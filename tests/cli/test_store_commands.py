"""status, retry, export and gc: looking into a store that is worked on, and mending one that is damaged."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sharpscope.sweep import Failure, Store
from sharpscope.sweep.store import owner
from small_store import ITS_MEASURE, OTHER_MEASURE, OTHER_RUN, RUN, small_store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a finished store of two runs and a measure of each, the study file beside it."""
    made = small_store(tmp_path)
    monkeypatch.chdir(tmp_path)
    (measure,) = [m["id"] for m in made.read_study()["measures"] if m["run"] == RUN]
    assert measure == ITS_MEASURE
    return made


def coordinator(store: Store, tag: str, **state: object) -> None:
    (store.root / "coordinators" / f"{tag}+1.json").write_text(json.dumps({"beat": 1, "workers": 2, **state}))


def living_tag() -> str:
    """Return the tag of a living process of this machine that is not this one."""
    pid = os.getppid()
    return f"{owner.own_tag().rsplit('-', 2)[0]}-{pid}-{owner._started(pid)}"


def dead_tag() -> str:
    return owner.own_tag().rsplit("-", 1)[0] + "-1"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "history.parquet", "outcome.json", "MANIFEST"])
def test_what_is_damaged_is_named_and_the_printed_command_mends_it(cli, store: Store, name: str) -> None:
    cli("export", store.root, "--output", "before")
    kept = (store.root / "measures" / OTHER_MEASURE / "measure.json").stat().st_mtime_ns
    flip(store.path(RUN) / name)
    code, out, _ = cli("status", store.root, "--verify")
    assert code == 1
    assert f"damaged: runs/{RUN}: {name} " in out
    assert json.loads(cli("status", store.root, "--verify", "--json")[1])["damaged"].keys() == {RUN}
    code, _, err = cli("export", store.root, "--output", "meanwhile")
    assert code == (0 if name == "checkpoint.safetensors" else 2), "a table reads no checkpoint"
    if code:
        assert re.fullmatch(rf"error: .*runs/{RUN} .*is damaged: {name} .*\n", err)
        out = err
    command = shlex.split(re.search(r"'sharpscope (retry [^']+ --damaged)'", out).group(1))
    code, out, _ = cli(*command)
    assert code == 0
    assert f"removed: {RUN}: {name}" in out
    assert f"removed: {ITS_MEASURE}: made from one of these" in out
    assert set(store.published()) == {OTHER_RUN, OTHER_MEASURE}
    if name != "checkpoint.safetensors":
        return  # one training shows what the next run does
    command = shlex.split(re.search(r"  sharpscope (run .*)", out).group(1))
    code, out, _ = cli(*command, "--json", "--no-report", "--workers", "1")
    assert (code, json.loads(out)["done"], json.loads(out)["skipped"]) == (0, 2, 2)
    assert cli("status", store.root, "--verify")[0] == 0
    assert (store.root / "measures" / OTHER_MEASURE / "measure.json").stat().st_mtime_ns == kept
    cli("export", store.root, "--output", "after")
    for path in Path("before").iterdir():  # numbers made on another machine may differ in their last bits
        assert ids_in(Path("after") / path.name) == ids_in(path)


def ids_in(table: Path) -> list[str]:
    """Return the run of every row of a CSV table, whose column is the first."""
    return [line.partition(",")[0] for line in table.read_text().splitlines()]


def test_a_lost_manifest_has_a_command_too(cli, store: Store) -> None:
    (store.path(RUN) / "MANIFEST").unlink()
    code, _, err = cli("export", store.root, "--output", "tables")
    assert code == 2
    assert f"'sharpscope retry {store.root} {RUN}'" in err
    code, out, _ = cli("retry", store.root, RUN)
    assert code == 0
    assert f"removed: {ITS_MEASURE}: made from one of these" in out


def test_retry_forgets_failures_and_what_they_had_saved(cli, store: Store) -> None:
    store.remove(ITS_MEASURE)
    store.remove(RUN)
    for one in (RUN, ITS_MEASURE):
        store.record_failure(Failure(one, "runs", "lr=0.3", "ValueError: no"))
    workspace = store.root / "work" / f"{RUN}@{dead_tag()}"
    workspace.mkdir()
    assert "failed: 39c48b450c410cc1 and 1 more, lr=0.3: ValueError: no\n" in cli("status", store.root)[1]
    assert re.search(r"runs +1 +0 +0 +1\n", cli("status", store.root)[1])
    code, out, _ = cli("retry", store.root, ITS_MEASURE, "--json")
    assert (code, json.loads(out)["forgotten"], json.loads(out)["removed"]) == (0, [ITS_MEASURE], {})
    assert workspace.exists()
    assert f"forgotten: the failure of {RUN}" in cli("retry", store.root, "--failed")[1]
    assert not workspace.exists()
    assert "there is nothing to do again" in cli("retry", store.root, "--failed", "--damaged")[1]
    code, _, err = cli("retry", store.root, "nowhere")
    assert (code, "has neither a result nor a failure 'nowhere'" in err) == (2, True)
    assert cli("retry", store.root)[0] == 2


@pytest.mark.skipif(os.name == "nt", reason="the parent's tag is read from /proc")
def test_nothing_is_removed_under_a_running_sweep(cli, store: Store) -> None:
    coordinator(store, living_tag())
    for arguments in (("retry", RUN), ("gc", "--unplanned")):
        if arguments[0] == "gc":
            shutil.copytree(store.path(RUN), store.root / "runs" / "stray")
        code, _, err = cli(arguments[0], store.root, *arguments[1:])
        assert code == 2
        assert f"worked on by process {os.getppid()} of" in err
    assert store.has(RUN)
    assert store.has("stray")
    assert cli("retry", store.root, "--failed")[0] == 0


@pytest.mark.skipif(os.name == "nt", reason="the parent's tag is read from /proc")
def test_status_says_what_runs_where_since_when_and_how_long_still(cli, store: Store) -> None:
    here, elsewhere = living_tag(), "gpu-box.0b0b0b-77-123"
    for one in (RUN, ITS_MEASURE):
        store.remove(one)
    task = {"kind": "runs", "seconds": 30.0, "worker": 1, "where": here}
    coordinator(
        store,
        here,
        running=[
            {**task, "task": RUN, "label": "lr=0.3", "fraction": 0.25},
            {**task, "task": "t2", "label": "lr=0.5", "worker": None, "where": None, "fraction": None},
        ],
        eta=135.0,
    )
    coordinator(store, elsewhere)
    (store.root / "leases" / f"{RUN}@{here}+1").touch()
    (store.root / "leases" / f"{ITS_MEASURE}@{dead_tag()}+1").touch()
    _, out, _ = cli("status", store.root)
    assert re.search(r"runs +1 +1 +0 +0\n", out)
    assert re.search(r"gradient_norm +1 +0 +1 +0\n", out)
    host = owner.place_of(here)[0]
    assert f"at work: process {os.getppid()} of {host}, 2 at a time, 2 min 15 s left\n" in out
    assert f"  worker 1 (process {os.getppid()}): lr=0.3 for 30 s, 25% done, 1 min 30 s left\n" in out
    assert "  starting: lr=0.5 for 30 s\n" in out
    assert (
        "at work: process 77 of gpu-box, 2 at a time, if it still lives: that machine was not asked\n" in out
    )
    assert f"died: process {dead_tag().split('-')[-2]} of {host}, at work on 1 result;" in out
    told = json.loads(cli("status", store.root, "--json")[1])
    assert [one["alive"] for one in told["coordinators"]].count(None) == 1
    (one,) = [one for one in told["coordinators"] if one["alive"] is True]
    assert one["running"][0]["left"] == 90.0
    assert told["tasks"][0] == {"what": "runs", "done": 1, "running": 1, "missing": 0, "failed": 0}


def test_gc_clears_away_what_it_says_and_no_more(cli, store: Store) -> None:
    dead = store.root / "tmp" / f"x@{dead_tag()}"
    foreign = store.root / "tmp" / "x@elsewhere.0a0a0a-1-1"
    mine = store.root / "tmp" / f"x@{owner.own_tag()}"
    for folder in (dead, foreign, mine):
        folder.mkdir()
    lease = store.root / "leases" / f"{RUN}@{dead_tag()}+1"
    lease.touch()
    shutil.copytree(store.path(RUN), store.root / "runs" / "stray")
    _, out, _ = cli("gc", store.root, "--dry-run")
    assert out == f"leases/{lease.name}\ntmp/{dead.name}\n2 would go\n"
    assert dead.exists()
    assert json.loads(cli("gc", store.root, "--json")[1])["removed"]
    assert [path.exists() for path in (dead, lease, foreign, mine)] == [False, False, True, True]
    assert cli("gc", store.root, "--unplanned", "--other-machines")[1].endswith("2 removed\n")
    assert [path.exists() for path in (foreign, mine, store.root / "runs" / "stray")] == [False, True, False]
    assert len(store.published()) == 4


def test_export_writes_the_tables_in_either_format(cli, store: Store, tmp_path: Path) -> None:
    code, out, _ = cli("export", store.root, "--format", "parquet", "--output", tmp_path / "t", "--json")
    assert code == 0
    assert [Path(file).name for file in json.loads(out)["files"]] == [
        "results.parquet",
        "measures.parquet",
        "history.parquet",
    ]
    assert cli("export", store.root, "--output", tmp_path / "u")[1].endswith("history.csv\n")
    assert len((tmp_path / "u" / "results.csv").read_text().splitlines()) == 3
    assert cli("export", store.root, "--format", "xls", "--output", tmp_path / "u")[0] == 2
    (tmp_path / "file").write_text("")
    code, _, err = cli("export", store.root, "--output", tmp_path / "file")
    assert (code, "must be writable" in err) == (2, True)


def test_status_needs_no_torch(store: Store) -> None:
    script = (
        f"import sys; sys.argv = ['sharpscope', 'status', {str(store.root)!r}]\n"
        "from sharpscope.cli import main\n"
        "try: main()\n"
        "finally: print(any(name in sys.modules for name in ('torch', 'pandas')))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert re.search(r"runs +2", shown.stdout)
    assert shown.stdout.splitlines()[-1] == "False", shown.stderr
