"""Which engine takes the steps of which members."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sharpscope.training.engines import direct
from sharpscope.training.engines.interface import Engine
from sharpscope.training.engines.plain import PlainEngine

if TYPE_CHECKING:
    from sharpscope.training.member import Member


def engine_for(members: list[Member]) -> Engine:
    """Return the fastest engine that these members' configuration, model and device allow."""
    if all(map(direct.takes, members)):
        return direct.DirectEngine(members)
    return PlainEngine(members)
