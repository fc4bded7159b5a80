"""Remove results from a store so that the next run redoes them, and remove files that no process uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sharpscope.errors import InputError, StoreError
from sharpscope.studies.results.records import needs_by_result, read_records, results_by_name
from sharpscope.sweep import Store, at_work


@dataclass(frozen=True)
class Retried:
    """What `retry` did.

    ``removed`` maps the id of each removed result to the reason; ``forgotten`` lists the ids of failures that were
    deleted.
    """

    removed: dict[str, str]
    forgotten: tuple[str, ...]


def retry(store: Store, ids: Sequence[str] = (), *, failed: bool = False, damaged: bool = False) -> Retried:
    """Remove results, with all that was made from them, and delete failures; the next run redoes just these.

    ``ids`` are results, published or failed. ``failed`` adds every failed one; it starts from the beginning and not
    from what it had saved. ``damaged`` adds every result with a file that differs from the published one.

    Raises `InputError` for an id that is neither published nor failed, `StoreError` where results would be removed
    that a running sweep counts as done.
    """
    records = read_records(store)
    failures = {failure.id for failure in store.failures()}
    published = store.published()
    for one in ids:
        if one not in published and one not in failures:
            raise InputError(
                f"the store {store.root} has neither a result nor a failure '{one}'; "
                "'sharpscope status' lists the failures, the tables have the ids of runs"
            )
    removed = {one: "asked for" for one in ids if one in published}
    if damaged:
        known = {result for results in results_by_name(records).values() for result in results}
        removed = store.find_damage(known) | removed
    for one in store.made_from(removed, needs_by_result(records)):
        removed[one] = "made from one of these"
    if removed and (busy := at_work(store.root)):
        raise StoreError(
            f"the store {store.root} is worked on by process {busy[0].pid} of {busy[0].host}, which counts "
            f"{len(removed)} of the results to be removed as done; stop it first"
        )
    store.prepare()
    # Derived results are removed first: if this is interrupted, the damaged result is still there to be found again.
    for one in sorted(removed, key=lambda result: removed[result] != "made from one of these"):
        store.remove(one)
    forgotten = sorted(failures if failed else failures.intersection(ids))
    tasks = {run: task for study in records for run, task in study["tasks"].items()}
    for one in forgotten:
        store.clear_failure(one)
        store.clear_attempts(tasks.get(one, one))
    return Retried(removed, tuple(forgotten))


def clear_away(
    store: Store, *, dry_run: bool = False, unplanned: bool = False, other_machines: bool = False
) -> list[str]:
    """Remove what dead processes left in a store, and return its paths in there, sorted; see `Store.garbage`.

    With `unplanned` the results that no study of the store asks for go too, with `other_machines` what processes of
    other machines left, none of which may be at work. With `dry_run` nothing is removed. Raises `StoreError` where
    `unplanned` is asked for while a sweep runs, which may be about to use them.
    """
    garbage = store.garbage(other_machines=other_machines)
    extra: dict[str, str] = {}
    if unplanned:
        planned = results_by_name(read_records(store)).values()
        known = {result for results in planned for result in results}
        extra = {one: kind for one, kind in store.results().items() if one not in known}
        if extra and not dry_run and (busy := at_work(store.root)):
            raise StoreError(
                f"the store {store.root} is worked on by process {busy[0].pid} of {busy[0].host}; stop it before "
                "results are cleared away"
            )
    if not dry_run:
        store.prepare()
        for one in extra:
            store.remove(one)
        store.remove_garbage(other_machines=other_machines)
    paths = [str(path.relative_to(store.root)) for path in garbage]
    return sorted([*paths, *(f"{kind}/{one}" for one, kind in extra.items())])
