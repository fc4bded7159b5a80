"""Files from someone else run no code, reach nothing outside and open no connection."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pickle
import shutil
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from sharpscope.data import files, load, planetoid
from sharpscope.errors import CheckpointError, DataError, InputError, StoreError
from sharpscope.models import build, own_code
from sharpscope.serialization import readable_json, seal_json
from sharpscope.sweep import Store
from sharpscope.sweep.store import manifest
from sharpscope.training import load_checkpoint, read_metadata, save_checkpoint
from small_store import OTHER_RUN, RUN, small_store

EVIL = """
import pathlib
pathlib.Path("ran").touch()
from os import system
def make(**options):
    pathlib.Path("called").touch()
class NoModule:
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the current folder, with a module ``evil`` in it that leaves a mark when it is imported."""
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("evil", None)
    own_code._announce.cache_clear()


@pytest.fixture
def store(folder: Path) -> Store:
    return small_store(folder)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def untouched(folder: Path) -> bool:
    return "evil" not in sys.modules and not (folder / "ran").exists() and not (folder / "called").exists()


def rewrite_study(store: Store, **changes: object) -> None:
    """Put changes into ``study.json``, with the seal of someone who knows how to make one."""
    study = {**store.read_study(), **changes}
    (store.root / "study.json").write_text(seal_json(readable_json(study)))


def republish(folder: Path) -> None:
    """Give a result's folder a manifest of what it holds now."""
    (folder / manifest.NAME).unlink(missing_ok=True)
    (folder / manifest.NAME).write_text(manifest.describe(folder, folder.name).text())


# A checkpoint


@pytest.mark.parametrize("name", ["os:system", "evil:make"])
def test_a_checkpoint_names_no_code(cli, folder: Path, name: str) -> None:
    run = {
        "data": {"name": "digits"},
        "model": {"name": name, "options": {"command": "touch called"}},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": 8,
        "stop": {"epochs": 1},
    }
    save_checkpoint("received.safetensors", torch.nn.Linear(2, 1), metadata={"run": run})
    code, _, err = cli("measure", "--checkpoint", "received.safetensors", "--measures", "gradient_norm")
    assert code == 2
    assert f"the checkpoint names the model '{name}', which is code" in err
    assert untouched(folder)


def test_a_checkpoint_names_no_loss_that_is_code(cli, folder: Path) -> None:
    run = {
        "data": {"name": "digits"},
        "model": {"name": "mlp", "options": {"hidden": [2]}},
        "loss": "evil:make",
        "optimizer": {"name": "evil:make", "lr": 0.1},
        "batch_size": 8,
        "stop": {"epochs": 1},
    }
    model = build("mlp", load("digits"), 0, hidden=[2])
    save_checkpoint("received.safetensors", model, metadata={"run": run})
    code, _, err = cli("measure", "--checkpoint", "received.safetensors", "--measures", "gradient_norm")
    assert code == 2
    assert "names the loss evil:make, which is code" in err
    assert untouched(folder)
    save_checkpoint("received.safetensors", model, metadata={"run": {**run, "loss": None}})
    code, _, err = cli("measure", "--checkpoint", "received.safetensors", "--measures", "gradient_norm")
    assert code == 0, err
    assert untouched(folder)


def test_a_checkpoint_chooses_no_file_to_read(cli, folder: Path, store: Store) -> None:
    secret = folder / "secret.csv"
    secret.write_text("x,y\n" + "1,2\n3,4\n" * 10)
    run = {
        "data": {"name": "table", "path": str(secret), "digest": files.digest_of(secret), "target": "y"},
        "model": {"name": "mlp"},
        "optimizer": {"name": "sgd", "lr": 0.1},
        "batch_size": 8,
        "stop": {"epochs": 1},
    }
    save_checkpoint("received.safetensors", torch.nn.Linear(2, 1), metadata={"run": run})
    code, _, err = cli("measure", "--checkpoint", "received.safetensors", "--measures", "gradient_norm")
    assert code == 2
    assert "must be given its path" in err


@pytest.mark.parametrize(
    "run", [7, [], {}, {"model": "mlp"}, {"model": {"name": "os:system", "options": {"x": float("inf")}}}]
)
def test_odd_metadata_is_refused_in_a_sentence(cli, folder: Path, run: object) -> None:
    save_checkpoint("received.safetensors", torch.nn.Linear(2, 1), metadata={"run": run})
    code, _, err = cli("measure", "--checkpoint", "received.safetensors", "--measures", "gradient_norm")
    assert (code, err.count("\n")) == (2, 1)
    assert "names no valid run" in err


def test_a_pickle_is_refused_unread(folder: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return os.system, ("touch called",)

    for protocol in (2, 4):
        Path("model.pt").write_bytes(pickle.dumps({"weights": Bomb()}, protocol=protocol))
        with pytest.raises(CheckpointError, match="is a pickle"):
            load_checkpoint("model.pt", torch.nn.Linear(2, 1))
    torch.save({"weights": Bomb()}, "model.pt")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_checkpoint("model.pt", torch.nn.Linear(2, 1))
    assert untouched(folder)


def header(text: bytes, rest: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text + rest


@pytest.mark.parametrize(
    "content",
    [
        header(b"{}", length=2**63),
        header(b"{}", length=2**40),
        header(b"[" * 100_000),
        header(b'{"a":' * 50_000),
        header(b'{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}', b"\0" * 4),
        header(b'{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}', b"\0" * 16),
        header(b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[-16,0]}}', b"\0" * 16),
        header(
            b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
            b'"b":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
            b"\0" * 16,
        ),
        header(b'{"w":{"dtype":"../../x","shape":[4],"data_offsets":[0,16]}}', b"\0" * 16),
        header(b'{"__metadata__":{"sharpscope_checkpoint":7}}'),
        b"",
        b"\0" * 7,
    ],
)
def test_a_hostile_safetensors_header_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "received.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError) as refused:
        read_metadata(tmp_path / "received.safetensors")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("body", ["", "[]", "7", '{"metadata": []}', "[" * 100_000, '{"meta": {}}'])
def test_a_hostile_body_with_the_right_checksum_is_refused(tmp_path: Path, body: str) -> None:
    from safetensors.torch import save_file

    from sharpscope.training import checkpoint

    path, tensors = tmp_path / "received.safetensors", {"model.weight": torch.zeros(2)}
    seal = checkpoint._checksum(body, tensors)
    save_file(tensors, path, metadata={"sharpscope_checkpoint": "1", "body": body, "sha256": seal})
    with pytest.raises(CheckpointError, match="was not written by sharpscope"):
        read_metadata(path)


# A study file

STUDY = """
name = "received"
[run]
data = "digits"
model = {{ name = "{model}", options = {{ {options} }} }}
optimizer = {{ name = "sgd", lr = 0.1 }}
batch_size = 64
stop = {{ epochs = 1 }}
"""


def test_listing_a_study_imports_nothing_and_running_it_says_so_first(cli, folder: Path) -> None:
    Path("received.toml").write_text(STUDY.format(model="evil:make", options=""))
    for arguments in (("studies", "received.toml"), ("studies", "received.toml", "--json")):
        assert cli(*arguments)[0] == 0
        assert untouched(folder)
    code, _, err = cli("run", "received.toml", "--no-report")
    assert code == 2
    assert err.startswith("importing the module evil for the model evil:make, which runs its code\n")
    assert "must return a torch.nn.Module" in err


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ('optimizer = { name = "sgd"', 'optimizer = { name = "evil:make"'),
        ("batch_size = 64", 'batch_size = 64\nloss = "evil:make"'),
    ],
)
def test_optimizers_and_losses_are_trusted_as_models_are(cli, folder: Path, written: str, named: str) -> None:
    plain = STUDY.format(model="mlp", options="hidden = [4]")
    assert written in plain
    Path("received.toml").write_text(plain.replace(written, named))
    for arguments in (("studies", "received.toml"), ("studies", "received.toml", "--json")):
        assert cli(*arguments)[0] == 0
        assert untouched(folder)
    code, _, err = cli("run", "received.toml", "--no-report")
    assert code == 2
    assert err.startswith("importing the module evil for the ")
    Path("received.toml").write_text(plain.replace(written, named.replace("evil:make", "os:system")))
    code, _, err = cli("run", "received.toml", "--no-report")
    assert code == 2
    assert "os belongs to Python" in err


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("os:system", 'command = "touch called"', "os belongs to Python"),
        ("subprocess:call", 'args = "touch called"', "subprocess belongs to Python"),
        ("builtins:exec", "", "builtins belongs to Python"),
        ("posix:system", 'command = "touch called"', "posix belongs to Python"),
        ("torch.hub:load", 'repo_or_dir = "x"', "torch is a library"),
        ("torch.serialization:load", 'f = "x"', "torch is a library"),
        ("pandas:read_pickle", 'filepath_or_buffer = "x"', "pandas is a library"),
        ("pandas:DataFrame", "", "must be a subclass of torch.nn"),
        ("evil:system", 'command = "touch called"', "must be a function or class"),
        ("evil:pathlib", "", "must be a function or class"),
        ("evil:NoModule", "", "must be a subclass of torch.nn"),
    ],
)
def test_what_is_no_model_factory_is_never_called(
    cli, folder: Path, name: str, options: str, sentence: str
) -> None:
    Path("received.toml").write_text(STUDY.format(model=name, options=options))
    assert cli("studies", "received.toml")[0] == 0
    assert untouched(folder)
    code, _, err = cli("run", "received.toml", "--no-report")
    assert code == 2
    assert sentence in err
    assert not (folder / "called").exists()


def test_a_study_file_of_a_factory_that_is_typed_runs(cli, folder: Path) -> None:
    Path("mine.py").write_text(
        "import torch\ndef net(width):\n    return torch.nn.Sequential("
        "torch.nn.Flatten(), torch.nn.Linear(64, width), torch.nn.Linear(width, 10))\n"
    )
    code, out, err = cli(
        "measure",
        "mine:net",
        "--data",
        "digits",
        "--option",
        "width=4",
        "--measures",
        "gradient_norm",
        "--json",
    )
    assert code == 0, err
    assert "importing the module mine for the model mine:net" in err
    json.loads(out)
    sys.modules.pop("mine")


# A store

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


# Data


def test_other_bytes_than_planetoids_own_are_not_unpickled(folder: Path) -> None:
    class Bomb:
        def __reduce__(self):
            return os.system, ("touch called",)

    Path("ind.cora.x").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="must have the SHA-256"):
        planetoid.read_verified(Path("ind.cora.x"), "0" * 64)
    with pytest.raises(DataError):
        planetoid.unpickle(pickle.dumps(Bomb()))
    assert untouched(folder)


@contextlib.contextmanager
def server(answer) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer(self)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{served.server_port}/abalone.data"
        finally:
            served.shutdown()


def redirect(handler) -> None:
    handler.send_response(302)
    handler.send_header("Location", Path("secret").absolute().as_uri())
    handler.end_headers()


def cut(handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"1,2,3\n")


def replaced(handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"evil")


@pytest.mark.parametrize("answer", [redirect, cut, replaced])
def test_a_download_that_is_redirected_cut_or_replaced_is_not_kept(folder: Path, monkeypatch, answer) -> None:
    (folder / "secret").write_text("secret")
    monkeypatch.setenv("SHARPSCOPE_CACHE", str(folder / "cache"))
    with server(answer) as address:
        origin = files.Origin("abalone.data", address, sha256="0" * 64)
        with pytest.raises(DataError):
            files.obtain("received", origin, files.Access())
    assert [path for path in (folder / "cache").rglob("*") if path.is_file()] == []


def test_a_table_of_data_is_read_as_text_and_numbers(folder: Path) -> None:
    from sharpscope.data import DataConfig, load

    rows = "x,y\n" + "\n".join(f"=cmd|' /C touch called'!A0,{i}" for i in range(10))
    Path("table.csv").write_text(rows)
    digest = files.digest_of(Path("table.csv"))
    with pytest.raises((DataError, InputError)):
        load(DataConfig(name="table", path="table.csv", digest=digest, target="y"))
    assert untouched(folder)
    shutil.rmtree("cache", ignore_errors=True)
