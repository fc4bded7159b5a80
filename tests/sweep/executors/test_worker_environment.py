from __future__ import annotations

import os

from sharpscope.sweep import usable_cores
from sharpscope.sweep.executors import worker_environment


def group(root, path, text, name="cpu.max"):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_the_least_quota_from_the_own_group_to_the_root_binds(tmp_path):
    own = tmp_path / "own"
    own.write_text("0::/batch/job1\n")
    root = tmp_path / "cgroup"
    assert worker_environment.cgroup_quota(root, own) is None
    group(root, "batch/job1", "max 100000\n")
    assert worker_environment.cgroup_quota(root, own) is None
    group(root, "batch", "250000 100000\n")
    group(root, "other", "100 100000\n")
    assert worker_environment.cgroup_quota(root, own) == 2.5
    group(root, "batch/job1", "50000 100000\n")
    assert worker_environment.cgroup_quota(root, own) == 0.5
    assert worker_environment.cgroup_quota(root, tmp_path / "none") is None


def test_version_1_quotas_count_too(tmp_path):
    own = tmp_path / "own"
    own.write_text("4:cpu,cpuacct:/\n")
    root = tmp_path / "cgroup"
    group(root, "cpu", "300000\n", "cpu.cfs_quota_us")
    group(root, "cpu", "100000\n", "cpu.cfs_period_us")
    assert worker_environment.cgroup_quota(root, own) == 3.0
    group(root, "cpu", "-1\n", "cpu.cfs_quota_us")
    assert worker_environment.cgroup_quota(root, own) is None


def test_there_is_always_a_core_and_never_more_than_allowed(monkeypatch):
    monkeypatch.setattr(worker_environment, "cgroup_quota", lambda: 0.5)
    assert usable_cores() == 1
    monkeypatch.setattr(worker_environment, "cgroup_quota", lambda: None)
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
