"""Data from someone else is checked before it is read, and read as text and numbers."""

from __future__ import annotations

import contextlib
import http.server
import os
import pickle
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sharpscope.data import files, load, planetoid
from sharpscope.errors import DataError, InputError
from trust.marks import untouched


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
    from sharpscope.data import DataConfig

    rows = "x,y\n" + "\n".join(f"=cmd|' /C touch called'!A0,{i}" for i in range(10))
    Path("table.csv").write_text(rows)
    digest = files.digest_of(Path("table.csv"))
    with pytest.raises((DataError, InputError)):
        load(DataConfig(name="table", path="table.csv", digest=digest, target="y"))
    assert untouched(folder)
    shutil.rmtree("cache", ignore_errors=True)
