"""One byte changed anywhere in a store: it is named with a remedy that works, and no table is ever wrong."""

from __future__ import annotations

import random
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from in_process import run_study
from sharpscope.studies.results.records import change_looks
from sharpscope.sweep import Failure, Store
from small_store import ITS_MEASURE, RUN, STUDY, small_store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store with a result of every kind, a failure and a journal."""
    made = small_store(tmp_path)
    made.remove(ITS_MEASURE)
    made.record_failure(Failure(ITS_MEASURE, "measures", "lr=0.1", "ValueError: no", "Traceback …"))
    shutil.rmtree(made.root / "report", ignore_errors=True)
    monkeypatch.chdir(tmp_path)
    return made


MORE = """
[[tracks]]
measure = "gradient_norm"
samples = 20
[[landscapes]]
name = "line"
a = { lr = 0.1 }
b = { lr = 0.3 }
alphas = { start = 0.0, stop = 1.0, points = 2 }
samples = 20
[[surfaces]]
name = "around"
of = { lr = 0.1 }
points = 3
samples = 20
[[audits]]
name = "scale"
of = { lr = 0.1 }
measures = ["gradient_norm"]
repetitions = 1
samples = 20
[[histograms]]
name = "first"
of = { lr = 0.1 }
parameter = "layers.1.weight"
bins = 4
"""


@pytest.fixture(scope="module")
def of_every_kind(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Return a store with tracks, every kind of view, and looks."""
    folder = tmp_path_factory.mktemp("every-kind")
    (folder / "two.toml").write_text(STUDY.replace("epochs = 2", "epochs = 1") + MORE)
    store = run_study(folder / "two.toml", folder / "store")
    change_looks(store, "two", "own", {"planned": [1, 2], "taken": [1], "open": []})
    return store


def stored_files(store: Store) -> list[Path]:
    return sorted(path for path in store.root.rglob("*") if path.is_file())


def tables(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_one_byte_changed_in_any_file_is_named_and_no_table_is_wrong(cli, store: Store) -> None:
    assert cli("status", store.root, "--verify")[0] == 0
    assert cli("export", store.root, "--output", "intact")[0] == 0
    intact = tables("intact")
    files = stored_files(store)
    kinds = {path.name for path in files}
    assert kinds >= {
        "sharpscope.json",
        "study.json",
        "journal.jsonl",
        "MANIFEST",
        "outcome.json",
        "measure.json",
    }
    assert len(files) >= 18
    change_bytes(cli, store, files, intact, places=2)
    assert cli("status", store.root, "--verify")[0] == 0


def change_bytes(cli, store: Store, files: list[Path], intact: dict[str, bytes], places: int) -> None:
    """Change the first and the last byte of files, and some between, one at a time."""
    dice = random.Random(23)
    for path in files:
        content = path.read_bytes()
        for place in (0, len(content) - 1, *(dice.randrange(len(content)) for _ in range(places))):
            changed = bytearray(content)
            changed[place] ^= 1 << dice.randrange(8)
            path.write_bytes(changed)
            code, out, err = cli("status", store.root, "--verify")
            is_result = path.parent.parent.name in store.kinds()
            named = f"{path.parent.name}: {path.name}" if is_result else path.name
            assert code in (1, 2), (path, place)
            assert named in out + err, (path, place, out, err)
            assert "Traceback" not in err
            shutil.rmtree("meanwhile", ignore_errors=True)
            code, _, err = cli("export", store.root, "--output", "meanwhile")
            assert code == 2 or tables("meanwhile") == intact, (path, place)
            assert "Traceback" not in err
        path.write_bytes(content)


def test_nor_one_in_tracks_views_and_looks(cli, of_every_kind: Store, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = of_every_kind
    assert set(store.kinds()) == {"runs", "measures", "landscapes", "surfaces", "audits", "histograms"}
    assert cli("export", store.root, "--output", "intact")[0] == 0
    intact = tables("intact")
    assert "tracks.csv" in intact
    runs = {run["id"] for run in store.read_study()["runs"]}
    files = [path for path in stored_files(store) if path.parent.name not in runs]
    files = [path for path in files if path.parent != store.root or path.name == "study.json"]
    assert len(files) >= 11, "a table and a manifest of each, and the study with its looks"
    change_bytes(cli, store, files, intact, places=0)
    assert cli("status", store.root, "--verify")[0] == 0


def test_a_damaged_log_of_a_detached_sweep_is_shown_as_it_is(cli, store: Store, monkeypatch) -> None:
    monkeypatch.setattr("sharpscope.cli.detach._LOOK", 0.0)
    gone = subprocess.Popen(["true"])
    gone.wait()
    log = store.root / ".detached" / f"{socket.gethostname()}-{gone.pid}.log"
    log.parent.mkdir()
    content = b"2 runs, 2 measures: 4 done\nexit status 0\n"
    dice = random.Random(5)
    for place in (*range(len(content) - 15, len(content)), 0, 7):
        changed = bytearray(content)
        changed[place] ^= 1 << dice.randrange(8)
        log.write_bytes(changed)
        code, out, err = cli("attach", store.root)
        assert "Traceback" not in err
        assert code == 0 or "died without a last word" in err or f"exit status {code}\n".encode() in changed
        assert "\x1b" not in out
        assert cli("status", store.root, "--verify")[0] == 0, "no result depends on it"


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name", ["sharpscope.json", "study.json", "journal.jsonl", f"failures/{ITS_MEASURE}.json"]
)
@pytest.mark.parametrize("lost", [False, True])
def test_the_remedy_for_a_file_beside_the_results_works(cli, store: Store, name: str, lost: bool) -> None:
    cli("export", store.root, "--output", "before")
    path = store.root / name
    if lost:
        path.unlink()
    else:
        damage(path)
    code, out, err = cli("status", store.root, "--verify")
    if lost and name not in ("sharpscope.json", "study.json"):
        assert code == 0, "nothing needs it"
        return
    assert code in (1, 2)
    text = out + err
    assert path.name in text or (lost and "holds no study yet; run one into it" in text)
    if (command := re.search(r"with: (echo .*)", text)) is not None:
        subprocess.run(command.group(1), shell=True, check=True)
    else:
        assert lost or re.search(r"remove it|remove the file", text), text
        path.unlink(missing_ok=True)
    if name != "journal.jsonl":
        code, _, err = cli("run", "two.toml", "--store", store.root, "--no-report", "--workers", "1")
        assert code == 0, err
    assert cli("status", store.root, "--verify")[0] == 0
    cli("export", store.root, "--output", "after")
    assert tables("after")["history.csv"].splitlines()[0] == tables("before")["history.csv"].splitlines()[0]
    assert len(tables("after")["results.csv"].splitlines()) == len(
        tables("before")["results.csv"].splitlines()
    )


def test_a_newer_version_that_is_none_has_a_remedy_that_works(cli, store: Store) -> None:
    marker = store.root / "sharpscope.json"
    before = marker.read_text()
    marker.write_text(before.replace("2", "3"))
    code, _, err = cli("status", store.root)
    assert code == 2
    command = re.search(r"with: (echo .*)", err).group(1)
    assert shlex.split(command)[-1] == str(marker)
    subprocess.run(command, shell=True, check=True)
    assert marker.read_text() == before


def test_a_lost_file_of_a_result_is_named(cli, store: Store) -> None:
    for name in ("outcome.json", "checkpoint.safetensors", "MANIFEST"):
        path = store.path(RUN) / name
        content = path.read_bytes()
        path.unlink()
        code, out, _ = cli("status", store.root, "--verify")
        assert code == 1
        assert f"damaged: runs/{RUN}: {name} is missing" in out
        path.write_bytes(content)
