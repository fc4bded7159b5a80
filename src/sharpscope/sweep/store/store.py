"""A folder of published results, each there whole or not at all.

Layout: ``sharpscope.json`` (the format), ``study.json``, ``<kind>/<id>/`` (published results, never changed, each
with its manifest), ``failures/<id>.json``, ``journal.jsonl`` (a history for people), and work in progress: ``tmp/``
(files being written), ``work/`` (the workspaces of unfinished tasks), ``leases/`` (which coordinator works on which
result) and ``coordinators/`` (heartbeats). Names in the last four end in an '@' and the process that owns them, as
``host-pid-start``. This tells what a dead process left behind from what a living one is writing, without a lock that
a crash could leave closed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from sharpscope.errors import StoreError
from sharpscope.serialization import sync_folder, sync_tree, write_whole
from sharpscope.sweep.store import manifest
from sharpscope.sweep.store.disk_errors import as_store_error
from sharpscope.sweep.store.identity import (
    MARKER,
    NAME,
    REPORT,
    RESERVED_KINDS,
    STUDY,
    WORKING_FOLDERS,
    check_version,
    is_store_without_marker,
    lost_marker,
    read_study,
    study_text,
    write_version,
)
from sharpscope.sweep.store.owner import may_live, of_this_machine, own_tag
from sharpscope.sweep.store.records import (
    Failure,
    failure_mark,
    failure_path,
    failure_paths,
    find_damaged_records,
    note,
    read_failure,
)
from sharpscope.sweep.store.sharing import exclusive
from sharpscope.sweep.store.workspaces import claim, garbage, owner, remove

__all__ = ["Failure", "Store"]

# What an empty disk or a file browser may have put into a folder that is otherwise empty.
_NOBODYS = {"lost+found", ".DS_Store", "desktop.ini"}


class Store:
    """A store of results at a folder; opened if it is there, made if the folder is missing or empty.

    Opening reads only, so a read-only store can be looked at. With ``create=False`` nothing is ever made. A store may
    have come from someone else: a symbolic link in it is refused or passed over, so that nothing outside is read.

    Raises `StoreError`, one sentence each, for a file in place of the folder, a folder of other things, a store
    of another format version, a damaged or lost ``sharpscope.json``, a symbolic link, no store where one must be,
    and a disk that refuses.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        self.root = Path(path).absolute()
        with as_store_error(f"open the store {self.root}"):
            if self.root.exists() and not self.root.is_dir():
                raise StoreError(f"the store {self.root} is a file and must be a folder; choose another path")
            names = _names(self.root) if self.root.exists() else set()
            if MARKER in names:
                check_version(self.root)
            elif is_store_without_marker(names):
                raise lost_marker(self.root)
            elif foreign := sorted(n for n in names - _NOBODYS if not n.startswith(f"{MARKER}@")):
                raise StoreError(
                    f"the folder {self.root} is no store and holds other things, such as '{foreign[0]}'; "
                    "choose an empty or a new folder"
                )
            elif not create:
                raise StoreError(
                    f"there is no store at {self.root}; check the path or run a study into it first"
                )
            else:
                self.root.mkdir(parents=True, exist_ok=True)
                write_version(self.root)

    # Published results

    def kinds(self) -> list[str]:
        """Return the kinds of result the store holds, sorted."""
        with as_store_error(f"read the store {self.root}"), os.scandir(self.root) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and _is_kind(e.name))

    def ids(self, kind: str) -> list[str]:
        """Return the ids of the published results of one kind, sorted."""
        with as_store_error(f"read the store {self.root}"):
            folder = self.root / kind
            if not folder.is_dir():
                return []
            return sorted(e.name for e in os.scandir(folder) if e.is_dir(follow_symlinks=False))

    def published(self) -> dict[str, str]:
        """Return the kind of every published result by its id: one look at the store instead of one for each."""
        return {result: kind for kind in self.kinds() for result in self.ids(kind)}

    def paths(self) -> dict[str, Path]:
        """Return the folder of every published result by its id, as `published` does its kind."""
        return {result: self.root / kind / result for result, kind in self.published().items()}

    def results(self) -> dict[str, str]:
        """Return what `published` does without folders that have no manifest and so may be no results at all."""
        published = self.published()
        return {r: k for r, k in published.items() if (self.root / k / r / manifest.NAME).exists()}

    def has(self, result: str) -> bool:
        """Return whether a result is published."""
        return self._find(result) is not None

    def path(self, result: str) -> Path:
        """Return the folder of a published result; `StoreError` when there is none."""
        found = self._find(result)
        if found is None:
            raise StoreError(f"the store {self.root} holds no result '{result}'; run the study that makes it")
        return found

    def _find(self, result: str) -> Path | None:
        if not NAME.match(result):
            return None
        paths = (self.root / kind / result for kind in self.kinds())
        return next((path for path in paths if path.is_dir() and not path.is_symlink()), None)

    def problem(self, result: str, *, content: bool = True) -> str | None:
        """Return what is wrong with a published result's files, in words that name the file; None when nothing is.

        Sizes are compared with the manifest, and with `content` SHA-256 sums too.
        """
        with as_store_error(f"read the store {self.root}"):
            return manifest.problem(self.path(result), content=content)

    def intact(self, result: str) -> Path:
        """Return the folder of a published result; `StoreError` with the remedy when a file of it is damaged."""
        folder = self.path(result)
        if (what := self.problem(result)) is not None:
            raise manifest.damaged(folder, what)
        return folder

    def find_damage(self, known: Collection[str] = ()) -> dict[str, str]:
        """Return what is wrong with each damaged result, by its id, having read every file.

        A folder without a manifest is damaged when it is one of the `known` results, and otherwise no result at all.
        """
        candidates = [*self.results(), *(one for one in self.published() if one in known)]
        found = {one: self.problem(one) for one in sorted(set(candidates))}
        return {one: what for one, what in found.items() if what is not None}

    def find_damaged_records(self) -> dict[str, str]:
        """Return what is wrong with each damaged failure record and with the journal, by path in the store."""
        with as_store_error(f"read the store {self.root}"):
            return find_damaged_records(self.root)

    def made_from(
        self, results: Iterable[str], needs: Mapping[str, Collection[str]] | None = None
    ) -> list[str]:
        """Return the published results that were made from some others, directly or not, sorted.

        What a result was made from says its manifest; `needs` says more, for results whose manifest does not know.
        """
        users: dict[str, set[str]] = {}
        for user, kind in self.published().items():
            used = set((needs or {}).get(user, ()))
            with contextlib.suppress(OSError, ValueError):  # a damaged manifest is reported by `find_damage`
                if (listed := manifest.read_manifest(self.root / kind / user)) is not None:
                    used |= set(listed.needs)
            for one in used:
                users.setdefault(one, set()).add(user)
        reached = list(dict.fromkeys(results))
        given = set(reached)
        for one in reached:  # grows while it is walked
            reached.extend(user for user in sorted(users.get(one, ())) if user not in reached)
        return sorted(set(reached) - given)

    def publish(self, result: str, folder: Path, kind: str, needs: tuple[str, ...] = ()) -> bool:
        """Make a finished folder a result: its manifest added, forced to the disk, then renamed into place.

        `needs` are the results it was made from. The first to publish wins: a folder that comes second is removed,
        and False returned. Either way the failure record and this process's workspace of that name have done their
        service and go.
        """
        target = self.root / kind / result
        with as_store_error(f"publish {kind}/{result} in the store {self.root}"):
            text = manifest.describe(folder, result, needs).text()
            (folder / manifest.NAME).write_text(text, encoding="utf-8", newline="\n")
            sync_tree(folder)
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                sync_folder(self.root)
            try:
                os.rename(folder, target)  # atomic; refuses a target that holds anything
                first = True
            except OSError:
                if not target.is_dir():
                    raise
                shutil.rmtree(folder, ignore_errors=True)
                first = False
            sync_folder(target.parent)
        note(self.root, "published" if first else "discarded", id=result, kind=kind)
        self.drop_workspace(result)
        self.clear_failure(result)
        return first

    def remove(self, result: str) -> None:
        """Remove a published result at once, so that the next run makes it anew; `StoreError` when there is none."""
        folder = self.path(result)
        trash = self._owned("tmp", f"removed-{result}")
        with as_store_error(f"remove '{result}' from the store {self.root}"):
            trash.parent.mkdir(exist_ok=True)
            folder.rename(trash)
            note(self.root, "removed", id=result, kind=folder.parent.name)
            shutil.rmtree(trash)

    # Places for work in progress

    def new_output(self, task_id: str) -> Path:
        """Return a fresh, empty folder for a task to write its result into."""
        folder = self._owned("tmp", task_id)
        with as_store_error(f"write to the store {self.root}"):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
        return folder

    def claim_workspace(self, task_id: str, produces: tuple[str, ...] = ()) -> tuple[Path, bool]:
        """Return a task's workspace and whether it holds an earlier attempt's work.

        Only who holds the task's lease may ask. What an earlier attempt left is taken over by renaming it, unless its
        process lives on this machine: one whose coordinator was killed is given a moment to die of it. The workspace
        of a task that produces several results notes which, in a hidden file, so that it can be cleared away when all
        of them are there.
        """
        with as_store_error(f"write to the store {self.root}"):
            return claim(self._owned("work", task_id), task_id, produces)

    def drop_workspace(self, task_id: str) -> None:
        """Remove this process's workspace for a task, if there is one."""
        shutil.rmtree(self._owned("work", task_id), ignore_errors=True)

    def clear_attempts(self, task_id: str) -> None:
        """Remove what attempts at a finished task left on other machines or in dead processes.

        Only who holds the task's lease may ask.
        """
        with as_store_error(f"write to the store {self.root}"):
            for folder in ("tmp", "work") if NAME.match(task_id) else ():
                for path in self.root.glob(f"{folder}/{task_id}@*"):
                    if not of_this_machine(owner(path)) or not may_live(owner(path)):
                        remove(path)

    def prepare(self) -> None:
        """Make sure that work can be written here, and remove garbage.

        Raises `StoreError` before any work is done when the folder cannot be written.
        """
        with as_store_error(f"write to the store {self.root}"):
            self._make_folders()
            probe = self._owned("tmp", "probe")
            text = "written and removed to see whether it can be\n"
            write_whole(probe, text, scratch=self._owned("tmp", "probe-new"))
            probe.unlink()
        self.remove_garbage()

    def garbage(self, *, other_machines: bool = False) -> list[Path]:
        """Return what nobody needs any more; see `sharpscope.sweep.store.workspaces`."""
        with as_store_error(f"read the store {self.root}"):
            return list(garbage(self.root, self.published(), other_machines=other_machines))

    def remove_garbage(self, *, other_machines: bool = False) -> int:
        """Remove the garbage; return how many files and folders."""
        found = self.garbage(other_machines=other_machines)
        for path in found:
            if path.parent.name == "work":
                # Renamed before it is removed: whoever would take it over gets all of it or nothing.
                trash = self._owned("tmp", path.name.replace("@", "-"))
                with contextlib.suppress(OSError):
                    path.rename(trash)
                path = trash
            remove(path)
        return len(found)

    def _owned(self, folder: str, name: str) -> Path:
        return self.root / folder / f"{name}@{own_tag()}"

    # Failures and the study

    def record_failure(self, failure: Failure) -> None:
        """Write down why a task has no result, in place of an earlier record."""
        with as_store_error(f"record a failure in the store {self.root}"):
            self._write(failure_path(self.root, failure.id), failure.text())

    def clear_failure(self, result: str) -> None:
        """Forget a result's failure, if there is a record of one."""
        with as_store_error(f"write to the store {self.root}"):
            if NAME.match(result):
                failure_path(self.root, result).unlink(missing_ok=True)

    def failures(self) -> list[Failure]:
        """Return the failures of results that are still not there, sorted by id."""
        with as_store_error(f"read the store {self.root}"):
            found = []
            for path in failure_paths(self.root):
                with contextlib.suppress(FileNotFoundError):  # cleared while we look
                    if not self.has(path.stem):
                        found.append(read_failure(path))
            return found

    def failure_marks(self) -> dict[str, object]:
        """Return for every failure record what tells it from a later one of the same result."""
        with as_store_error(f"read the store {self.root}"):
            return {path.stem: failure_mark(path) for path in failure_paths(self.root)}

    def newer_failure(self, result: str, mark: object) -> Failure | None:
        """Return a result's failure record unless it is the one that `failure_marks` gave this mark."""
        path = failure_path(self.root, result)
        with as_store_error(f"read {path}"), contextlib.suppress(FileNotFoundError):
            if failure_mark(path) not in (None, mark):
                return read_failure(path)
        return None

    def write_study(self, study: Mapping[str, Any]) -> None:
        """Write ``study.json``: what this store is for, so that a report can be rebuilt from the store alone."""
        with as_store_error(f"write to the store {self.root}"):
            self._write(self.root / STUDY, study_text(study))

    def change_study(self, change: Callable[[dict[str, Any] | None], Mapping[str, Any]]) -> None:
        """Replace what ``study.json`` holds by what `change` makes of it, while no other process does the same.

        Where that is what it holds already, nothing is written.
        """
        study = self.read_study()
        if study is None or study_text(change(study)) != study_text(study):
            with as_store_error(f"write to the store {self.root}"):
                self._make_folders()
            with exclusive(self.root, STUDY):
                self.write_study(change(self.read_study()))

    def read_study(self) -> dict[str, Any] | None:
        """Return what `write_study` wrote, None when nothing was; `StoreError` when the file is damaged."""
        path = self.root / STUDY
        with as_store_error(f"read {path}"):
            return read_study(path)

    def _make_folders(self) -> None:
        for name in WORKING_FOLDERS:
            (self.root / name).mkdir(exist_ok=True)

    def _write(self, path: Path, text: str) -> None:
        (self.root / "tmp").mkdir(exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, text, scratch=self._owned("tmp", path.name))


def _names(root: Path) -> set[str]:
    """Return the names in a store's folder; `StoreError` for a symbolic link there or in its report."""
    names = set()
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.is_symlink():
                raise _linked(entry.path)
            names.add(entry.name)
    for parent, folders, files in os.walk(root / REPORT):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(parent, name)):
                raise _linked(os.path.join(parent, name))
    return names


def _linked(path: str) -> StoreError:
    return StoreError(
        f"{path} is a symbolic link, and a store holds none, so that nothing outside it is read or written; "
        "put the folder itself there"
    )


def _is_kind(name: str) -> bool:
    return name not in RESERVED_KINDS and name not in _NOBODYS and not name.startswith(".")
