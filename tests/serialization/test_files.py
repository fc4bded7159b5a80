from __future__ import annotations

import errno
import os

import pytest

from sharpscope.serialization import files, replacing, sync_tree, write_whole


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "page.html"
    assert write_whole(path, "old\r\n") == path
    write_whole(path, b"new\n")
    assert path.read_bytes() == b"new\n"
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_failed_write_keeps_the_old_file_and_removes_its_own(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    write_whole(path, "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "new")
    monkeypatch.undo()

    def interrupted():
        with replacing(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_pipe_or_device_is_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="cannot be replaced"):
        write_whole(pipe, "new")
    assert pipe.is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


def test_the_content_reaches_the_disk_before_its_name_and_the_folder_after(tmp_path, monkeypatch):
    order = []
    real_sync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(
        files.os,
        "fsync",
        lambda h: (order.append("dir" if os.path.isdir(f"/proc/self/fd/{h}") else "file"), real_sync(h)),
    )
    monkeypatch.setattr(files.os, "replace", lambda a, b: (order.append("rename"), real_replace(a, b)))
    write_whole(tmp_path / "a", "x")
    assert order == ["file", "rename", "dir"]
    order.clear()
    write_whole(tmp_path / "a", "y", durable=False)
    assert order == ["rename"]


def test_a_file_system_that_cannot_sync_folders_is_no_error(tmp_path, monkeypatch):
    real = os.fsync

    def refuse_folders(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(files.os, "fsync", refuse_folders)
    assert write_whole(tmp_path / "a", "x").read_text() == "x"


def test_a_tree_is_forced_to_the_disk_without_following_links(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_text("x")
    (tmp_path / "inner" / "link").symlink_to(tmp_path / "nowhere")
    synced = []
    monkeypatch.setattr(files.os, "fsync", lambda h: synced.append(os.readlink(f"/proc/self/fd/{h}")))
    sync_tree(tmp_path)
    assert synced == [str(tmp_path / "inner" / "file"), str(tmp_path / "inner"), str(tmp_path)]
