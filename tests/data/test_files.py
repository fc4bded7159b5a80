from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from sharpscope.data.files import Access, Origin, cache_folder, obtain
from sharpscope.errors import DataError

CONTENT = b"rows" * 50_000


@pytest.fixture
def address(tmp_path):
    path = tmp_path / "published"
    path.write_bytes(CONTENT)
    return path.as_uri()


def test_a_download_lands_in_the_cache_once(address):
    told = []
    origin = Origin("raw/file", address, sha256=hashlib.sha256(CONTENT).hexdigest())
    path = obtain("cora", origin, Access(progress=lambda *event: told.append(event)))
    assert path == cache_folder() / "data" / "cora" / "raw" / "file"
    assert path.read_bytes() == CONTENT
    assert told[-1] == ("Downloading raw/file", len(CONTENT), len(CONTENT))
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]
    told.clear()
    assert obtain("cora", origin, Access(download=False)) == path
    assert told == []


def test_a_download_with_another_hash_is_thrown_away(address):
    with pytest.raises(DataError, match="must have the SHA-256 0000"):
        obtain("cora", Origin("file", address, sha256="0" * 64), Access())
    assert list((cache_folder() / "data" / "cora").iterdir()) == []


def test_no_connection_is_one_sentence(tmp_path):
    origin = Origin("file", (tmp_path / "absent").as_uri(), sha256="0" * 64)
    with pytest.raises(DataError, match="check the connection, or put file into a folder cora/") as raised:
        obtain("cora", origin, Access())
    assert "\n" not in str(raised.value)


def test_no_connection_to_the_hub_is_one_sentence_at_once(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # the discard port: refused
    with pytest.raises(DataError, match=r"Hugging Face hub \(some/where\).*check the connection"):
        obtain("cifar10", Origin("file", "file", hub="some/where"), Access())


def test_the_hub_is_asked_for_a_data_set_and_its_file_kept_under_our_name(monkeypatch):
    import huggingface_hub

    from sharpscope.data import files

    asked = []

    def fake(repository, file, *, repo_type, local_dir):
        asked.append((repository, file, repo_type))
        target = f"{local_dir}/received"
        with open(target, "wb") as out:
            out.write(CONTENT)
        return target

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake)
    monkeypatch.setattr(files, "require_reachable", lambda address: None)
    path = obtain("cifar10", Origin("train", "plain_text/train", hub="some/where"), Access())
    assert asked == [("some/where", "plain_text/train", "dataset")]
    assert path == cache_folder() / "data" / "cifar10" / "train"
    assert path.read_bytes() == CONTENT


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("SHARPSCOPE_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(DataError, match="set SHARPSCOPE_CACHE"):
        cache_folder()
