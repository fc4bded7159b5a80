from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from sharpscope.errors import StoreError
from sharpscope.sweep import Failure, Store
from sharpscope.sweep.store import identity, owner, workspaces
from sharpscope.sweep.store.disk_errors import disk_failure
from sharpscope.sweep.store.owner import may_live, own_tag


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "; " in text, "no remedy"
    return text


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(tmp_path / "deep" / "store")
    made.prepare()
    return made


@pytest.fixture(scope="module")
def dead_tag() -> str:
    """Tag of a process that is gone."""
    code = "from sharpscope.sweep.store.owner import own_tag; print(own_tag())"
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **path}, capture_output=True, text=True, check=True
    ).stdout.strip()


def living_tag() -> str:
    """Return the tag of a process of this machine that lives and is not this one."""
    pid = os.getppid()
    start = owner._started(pid)
    return f"{own_tag().rsplit('-', 2)[0]}-{pid}-{start}"


def result(store: Store, task_id: str, text: str):
    folder = store.new_output(task_id)
    (folder / "value.txt").write_text(text)
    return folder


def test_a_store_is_made_found_again_and_published_into_once(store):
    assert not store.has("a1")
    assert store.publish("a1", result(store, "a1", "first"), "runs")
    assert not store.publish("a1", result(store, "a1", "second"), "runs")
    again = Store(store.root, create=False)
    assert again.has("a1")
    assert (again.path("a1") / "value.txt").read_text() == "first"
    assert again.path("a1") == store.root / "runs" / "a1"
    assert again.kinds() == ["runs"]
    assert again.ids("runs") == ["a1"]
    assert again.ids("measures") == []
    assert list(store.root.glob("tmp/*")) == []
    with pytest.raises(StoreError, match="holds no result 'b2'"):
        again.path("b2")


def test_an_empty_result_is_a_result(store):
    assert store.publish("a1", store.new_output("a1"), "runs")
    assert store.has("a1")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p.write_text("a file"), "is a file and must be a folder"),
        (
            lambda p: (p.mkdir(), (p / "thesis.tex").write_text("")),
            "holds other things, such as 'thesis.tex'",
        ),
        (
            lambda p: (
                p.mkdir(),
                (p / "sharpscope.json").write_text('{"format": "sharpscope-store", "version": 3}'),
            ),
            "has format version 3 and this sharpscope reads version 2; update sharpscope",
        ),
        (
            lambda p: (
                p.mkdir(),
                (p / "sharpscope.json").write_text('{"format": "sharpscope-store", "version": 1}'),
            ),
            "has format version 1 .* run the study again into a new store",
        ),
        (
            lambda p: (p.mkdir(), (p / "sharpscope.json").write_text('{"form')),
            "is damaged or another program's",
        ),
        (lambda p: (p.mkdir(), (p / "sharpscope.json").write_text("[1]")), "is damaged or another program's"),
    ],
)
def test_what_is_no_store_is_refused_untouched(tmp_path, make, sentence):
    path = tmp_path / "store"
    make(path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError, match=sentence) as error:
        Store(path)
    one_sentence(error)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_store_inside_a_file_or_absent_where_one_must_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot open the store") as error:
        Store(tmp_path / "file" / "store")
    one_sentence(error)
    with pytest.raises(StoreError, match="there is no store at") as error:
        Store(tmp_path / "none", create=False)
    one_sentence(error)
    assert not (tmp_path / "none").exists()


def test_a_store_whose_making_was_cut_off_is_made_again(tmp_path, dead_tag):
    (tmp_path / f"sharpscope.json@{dead_tag}").write_text("{")
    (tmp_path / "lost+found").mkdir()
    store = Store(tmp_path)
    store.prepare()
    assert store.kinds() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "coordinators",
        "failures",
        "leases",
        "lost+found",
        "sharpscope.json",
        "tmp",
        "work",
    ]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_refusing_disk_is_one_sentence_and_nothing_half(store, monkeypatch, number):
    folder = result(store, "a1", "text")

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=f"cannot publish runs/a1 .*{os.strerror(number)}") as error:
        store.publish("a1", folder, "runs")
    one_sentence(error)
    with pytest.raises(StoreError, match="cannot write to the store") as error:
        store.write_study({"name": "x"})
    one_sentence(error)
    with pytest.raises(StoreError, match="cannot write to the store"):
        store.prepare()
    monkeypatch.undo()
    assert not store.has("a1")
    assert store.read_study() is None
    assert [path.name.partition("@")[0] for path in store.root.glob("tmp/*")] == ["a1"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_can_be_read_but_not_worked_in(store):
    check_read_only(store)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_read_only_store_can_be_read_but_not_worked_in_by_another_user(store):
    store.publish("a1", result(store, "a1", "text"), "runs")
    folder = store.root
    while folder != folder.parent:  # let the other user in, as far as the store
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
        folder = folder.parent
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            check_read_only(Store(store.root))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def check_read_only(store):
    mine = store.root.stat().st_uid == os.geteuid()
    try:
        if mine:
            for folder in [*store.root.glob("*/"), store.root]:
                folder.chmod(0o555)
        again = Store(store.root)
        assert again.failures() == []
        with pytest.raises(StoreError, match="Permission denied.*make the folder writable") as error:
            again.prepare()
        one_sentence(error)
    finally:
        if mine:
            for folder in [store.root, *store.root.glob("*/")]:
                folder.chmod(0o755)


def test_only_the_garbage_of_the_dead_is_removed(store, dead_tag):
    assert not may_live(dead_tag)
    assert may_live(own_tag())
    assert may_live("elsewhere.0a0a0a-1-1"), "a process of another machine may live"
    assert not may_live(own_tag().rpartition("-")[0] + "-1"), "same number, other process"
    result(store, "mine", "being written")
    garbage = [store.root / "tmp" / f"{name}@{dead_tag}" for name in ("a1", "study.json")]
    garbage[0].mkdir()
    (garbage[0] / "half.txt").write_text("half")
    garbage[1].write_text("{")
    foreign = store.root / "tmp" / "a1@elsewhere-1-1"
    foreign.mkdir()
    unfinished, finished = (store.root / "work" / f"{name}@{dead_tag}" for name in ("a1", "b2"))
    for workspace in (unfinished, finished):
        workspace.mkdir()
        (workspace / "checkpoint").write_text("x")
    store.publish("b2", result(store, "b2", "text"), "runs")
    others = store.root / "work" / "b2@elsewhere-1-1"
    others.mkdir()
    assert store.remove_garbage() == 3
    assert sorted(path.name for path in store.root.glob("tmp/*")) == sorted(
        [f"mine@{own_tag()}", foreign.name]
    )
    assert sorted(path.name for path in store.root.glob("work/*")) == sorted([unfinished.name, others.name])


def die_at_touch(root, deaths):
    """Let this process die by kill -9 at the `deaths`-th touch of the store's folder; it cannot be taken back."""
    touches = 0

    def hook(event, arguments):
        nonlocal touches
        if any(isinstance(one, (str, os.PathLike)) and str(root) in str(one) for one in arguments):
            touches += 1
            if touches == deaths:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def work(root):
    """Go through all that writes to a store."""
    store = Store(root)
    store.prepare()
    store.write_study({"name": "quick"})
    store.record_failure(Failure("a1", "runs", "", "it died"))
    workspace, _ = store.claim_workspace("a1")
    (workspace / "checkpoint").write_text("x")
    folder = result(store, "a1", "whole")
    (folder / "deep").mkdir()
    (folder / "deep" / "value.txt").write_text("whole")
    store.publish("a1", folder, "runs")


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_killed_at_every_touch_of_the_disk_a_store_is_whole(tmp_path):
    killed = 0
    for deaths in range(1, 500):
        root = tmp_path / f"store{deaths}"
        child = os.fork()
        if child == 0:
            try:
                die_at_touch(root, deaths)
                work(root)
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitpid(child, 0)[1]
        store = Store(root)
        if store.has("a1"):
            values = [path.read_text() for path in sorted(store.path("a1").rglob("*.txt"))]
            assert values == ["whole", "whole"]
        assert store.read_study() in (None, {"name": "quick"})
        assert [failure.reason for failure in store.failures()] in ([], ["it died"])
        work(root)
        store.remove_garbage()
        assert (store.path("a1") / "deep" / "value.txt").read_text() == "whole"
        assert store.failures() == []
        assert [p for name in ("tmp", "work", "failures") for p in (root / name).iterdir()] == []
        records = {"journal.jsonl", "sharpscope.json", "study.json"}
        assert {path.name for path in root.glob("*.json*")} == records
        if status == 0:
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
        killed += 1
    assert killed > 30


def test_a_workspace_passes_from_the_dead_to_one_heir(store, dead_tag, monkeypatch):
    monkeypatch.setattr(workspaces, "_DYING", 0.05)
    left, elsewhere, living = (
        store.root / "work" / f"a1@{tag}" for tag in (dead_tag, "elsewhere.0a0a0a-1-1", living_tag())
    )
    for workspace in (left, elsewhere, living):
        workspace.mkdir()
    (left / "checkpoint").write_text("3 epochs")
    (living / "checkpoint").write_text("4 epochs")
    workspace, resumed = store.claim_workspace("a1")
    assert resumed
    assert (workspace / "checkpoint").read_text() == "3 epochs"
    assert not left.exists()
    assert elsewhere.exists(), "there is nothing in it to go on from"
    assert living.exists()
    assert store.claim_workspace("a1") == (workspace, True)
    assert store.claim_workspace("b2")[1] is False
    store.publish("a1", result(store, "a1", "text"), "runs")
    assert not workspace.exists()
    store.clear_attempts("a1")
    assert [path.name for path in store.root.glob("work/a1@*")] == [living.name]


def test_a_workspace_of_another_machine_passes_to_who_holds_the_lease(store):
    left = store.root / "work" / "a1@elsewhere-1-1"
    left.mkdir()
    (left / "checkpoint").write_text("5 epochs")
    workspace, resumed = store.claim_workspace("a1")
    assert resumed
    assert (workspace / "checkpoint").read_text() == "5 epochs"


def test_failures_are_kept_until_there_is_a_result(store):
    failure = Failure("a1", "runs", "lr 0.1", "ValueError: no", "Traceback ...", "words", 0)
    store.record_failure(failure)
    store.record_failure(Failure("b2", "runs", "lr 0.2", "it died", crashes=3))
    (store.root / "failures" / "c3.json").write_text("{")
    found = store.failures()
    assert found[0] == failure
    assert [f.id for f in found] == ["a1", "b2", "c3"]
    assert "is damaged" in found[2].reason
    store.publish("a1", result(store, "a1", "text"), "runs")
    assert [f.id for f in store.failures()] == ["b2", "c3"]
    store.clear_failure("b2")
    store.clear_failure("b2")
    assert [f.id for f in store.failures()] == ["c3"]


def test_the_study_is_kept_beside_its_results(store):
    assert store.read_study() is None
    store.write_study({"name": "quick", "lr": [0.1, 1.0]})
    store.write_study({"name": "λ", "lr": [0.1, 1.0]})
    assert Store(store.root).read_study() == {"name": "λ", "lr": [0.1, 1.0]}
    assert json.loads((store.root / "sharpscope.json").read_text())["version"] == identity.VERSION
    (store.root / "study.json").write_text("{")
    with pytest.raises(StoreError, match=r"study\.json is damaged") as error:
        store.read_study()
    one_sentence(error)


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_studies_that_come_at_the_same_moment_are_all_kept(tmp_path):
    children = []
    for number in range(5):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                Store(tmp_path / "store").change_study(lambda old, n=number: {**(old or {}), f"study {n}": n})
                os._exit(0)
            finally:
                os._exit(1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
    store = Store(tmp_path / "store")
    assert store.read_study() == {f"study {number}": number for number in range(5)}
    assert [
        path for name in ("leases", "coordinators", "tmp") for path in (store.root / name).iterdir()
    ] == []


def test_a_study_that_is_there_is_not_written_again(store, monkeypatch):
    store.write_study({"rates": [0.1, 1.0]})
    monkeypatch.setattr(Store, "write_study", lambda self, study: pytest.fail("a read-only store will do"))
    store.change_study(lambda old: {**old, "rates": (0.1, 1.0)})


def test_which_errors_are_the_disks(tmp_path):
    inside, outside = str(tmp_path / "store" / "x"), str(tmp_path / "data")
    root = tmp_path / "store"

    def blamed(*args):
        return disk_failure(OSError(*args), root) is not None

    assert blamed(errno.ENOSPC, "full")
    assert blamed(errno.EROFS, "read-only", inside)
    assert blamed(errno.EACCES, "denied", inside)
    assert not blamed(errno.EACCES, "denied", outside)
    assert not blamed(errno.ENOSPC, "full", outside)
    assert not blamed(errno.ENOENT, "missing", inside)
    wrapped = RuntimeError("could not save")
    wrapped.__cause__ = OSError(errno.ENOSPC, "full")
    assert disk_failure(wrapped, root) is not None
    assert disk_failure(ValueError("no"), root) is None


def test_a_file_is_replaced_whole_or_not_at_all(store, monkeypatch):
    store.write_study({"name": "old"})

    def refuse(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StoreError, match="No space left"):
        store.write_study({"name": "new"})
    assert store.read_study() == {"name": "old"}
    assert list(store.root.glob("tmp/*")) == []
