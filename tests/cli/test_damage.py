"""One byte changed anywhere in a store: it is named with a remedy that works, and no table is ever wrong."""

from __future__ import annotations

import random
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from sharpscope.sweep import Failure, Store
from small_store import ITS_MEASURE, RUN, small_store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Return a store with a result of every kind, a failure and a journal."""
    made = small_store(tmp_path)
    made.remove(ITS_MEASURE)
    made.record_failure(Failure(ITS_MEASURE, "measures", "lr=0.1", "ValueError: no", "Traceback …"))
    shutil.rmtree(made.root / "report", ignore_errors=True)
    monkeypatch.chdir(tmp_path)
    return made


def stored_files(store: Store) -> list[Path]:
    return sorted(path for path in store.root.rglob("*") if path.is_file())


def tables(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_one_byte_changed_in_any_file_is_named_and_no_table_is_wrong(cli, store: Store) -> None:
    assert cli("status", store.root, "--verify")[0] == 0
    assert cli("export", store.root, "--output", "intact")[0] == 0
    intact = tables("intact")
    dice = random.Random(23)
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
    for path in files:
        content = path.read_bytes()
        places = [0, len(content) - 1, *(dice.randrange(len(content)) for _ in range(5))]
        for place in places:
            changed = bytearray(content)
            changed[place] ^= 1 << dice.randrange(8)
            path.write_bytes(changed)
            code, out, err = cli("status", store.root, "--verify")
            is_result = path.parent.parent.name in ("runs", "measures")
            named = f"{path.parent.name}: {path.name}" if is_result else path.name
            assert code in (1, 2), (path, place)
            assert named in out + err, (path, place, out, err)
            assert "Traceback" not in err
            shutil.rmtree("meanwhile", ignore_errors=True)
            code, _, err = cli("export", store.root, "--output", "meanwhile")
            assert code == 2 or tables("meanwhile") == intact, (path, place)
            assert "Traceback" not in err
        path.write_bytes(content)
    assert cli("status", store.root, "--verify")[0] == 0


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
