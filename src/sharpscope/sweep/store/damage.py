"""Finding results that are no longer what was published, and what was made from them."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping

from sharpscope.sweep.store import manifest
from sharpscope.sweep.store.store import Store


def find_damage(store: Store, known: Collection[str] = ()) -> dict[str, str]:
    """Return what is wrong with each damaged result of a store, by its id, having read every file.

    A folder without a manifest is damaged when it is one of the `known` results, and otherwise no result at all.
    """
    candidates = [*store.results(), *(one for one in store.published() if one in known)]
    found = {one: store.problem(one) for one in sorted(set(candidates))}
    return {one: what for one, what in found.items() if what is not None}


def made_from(
    store: Store, results: Iterable[str], needs: Mapping[str, Collection[str]] | None = None
) -> list[str]:
    """Return the published results that were made from some others, directly or not, sorted.

    What a result was made from says its manifest; `needs` says more, for results whose manifest does not know.
    """
    users: dict[str, set[str]] = {}
    for user, kind in store.published().items():
        used = set((needs or {}).get(user, ()))
        with contextlib.suppress(OSError, ValueError):  # what is damaged itself is for others to find
            if (listed := manifest.read_manifest(store.root / kind / user)) is not None:
                used |= set(listed.needs)
        for one in used:
            users.setdefault(one, set()).add(user)
    reached = list(dict.fromkeys(results))
    given = set(reached)
    for one in reached:  # grows while it is walked
        reached.extend(user for user in sorted(users.get(one, ())) if user not in reached)
    return sorted(set(reached) - given)
