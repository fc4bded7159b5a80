"""Leases: which coordinator works on which result, so that no two do the same.

A lease on a result is an empty file ``leases/<result>@<coordinator>``. To take one, a coordinator makes its file and
then lists the folder: if no other living coordinator has a file for the same result, it holds the lease; otherwise it
removes its own file. Of two that try at the same moment, the one whose file was made later sees the other's, so they
never both hold it; at worst neither does, and both try again. Every file has its owner's name, so that anyone may
remove a dead owner's file at any time without harm to a lease taken since.

If an owner lives and loses its lease all the same, because it was silent for too long, the work is done twice and
published once: the first to publish wins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from sharpscope.sweep.store.disk_errors import as_store_error
from sharpscope.sweep.store.liveness import Liveness, is_coordinator
from sharpscope.sweep.store.records import note

FOLDER = "leases"


class Leases:
    """The leases of one coordinator in a store, and its view of the others'."""

    def __init__(self, root: Path, coordinator: str, liveness: Liveness) -> None:
        self._root = root
        self._coordinator = coordinator
        self._liveness = liveness
        self._mine: set[str] = set()

    def take(self, results: Iterable[str]) -> str | None:
        """Take the leases on all of some results, or none of them.

        Returns None when they are taken, otherwise a coordinator that is at work on one of them. Files of dead
        coordinators are removed on the way. Raises `StoreError` where the store cannot be written.
        """
        wanted = list(results)
        with as_store_error(f"write to the store {self._root}"):
            # Looked at before anything is made, so that a lease that is held for hours is not disturbed.
            if (other := self._other(wanted, clear=False)) is not None:
                return other
            made: list[str] = []
            try:
                for result in wanted:
                    os.close(os.open(self._path(result), os.O_CREAT | os.O_WRONLY, 0o666))
                    made.append(result)
                other = self._other(wanted, clear=True)
            except BaseException:
                self._unlink(made)
                raise
            if other is not None:
                self._unlink(made)
                return other
        self._mine.update(wanted)
        return None

    def give_up(self, results: Iterable[str]) -> None:
        """Give leases back; those that are not held are passed over."""
        ours = self._mine.intersection(results)
        self._unlink(ours)
        self._mine -= ours

    def give_up_all(self) -> None:
        """Give every lease back."""
        self.give_up(tuple(self._mine))

    def held(self, results: Iterable[str]) -> bool:
        """Return whether this coordinator still has its leases on all of some results.

        Others take them over when it has been silent for too long, as a process does that was suspended.
        """
        return all(self._path(result).exists() for result in results)

    def others(self, results: Iterable[str]) -> str | None:
        """Return another living coordinator that is at work on one of some results, None when there is none."""
        with as_store_error(f"read the store {self._root}"):
            return self._other(list(results), clear=False)

    def _other(self, results: list[str], *, clear: bool) -> str | None:
        wanted = set(results)
        for result, coordinator in held(self._root):
            if result in wanted and coordinator != self._coordinator:
                if self._liveness.alive(coordinator):
                    return coordinator
                if clear:
                    with contextlib.suppress(FileNotFoundError):
                        (self._root / FOLDER / f"{result}@{coordinator}").unlink()
                        note(self._root, "reclaimed", id=result, of=coordinator)
        return None

    def _unlink(self, results: Iterable[str]) -> None:
        for result in results:
            with contextlib.suppress(OSError):
                self._path(result).unlink()

    def _path(self, result: str) -> Path:
        return self._root / FOLDER / f"{result}@{self._coordinator}"


def held(root: Path) -> list[tuple[str, str]]:
    """Return every lease as (result, coordinator), sorted, be the coordinator alive or dead."""
    try:
        names = sorted(os.listdir(root / FOLDER))
    except FileNotFoundError:
        return []
    return [
        (result, owner)
        for result, _, owner in (name.partition("@") for name in names)
        if is_coordinator(owner)
    ]
