"""``sharpscope demo``."""

from __future__ import annotations

from sharpscope.cli.options import Json, Store, Workers


def demo(store: Store = None, workers: Workers = None, json: Json = False) -> None:
    """Run the quickstart study on embedded data (a few minutes) and write its report.

    54 small networks on scikit-learn's handwritten digits, seven measures of each; needs no download. The
    same as 'sharpscope run quickstart'.
    """
    from sharpscope.cli.placement import Placement
    from sharpscope.cli.run import carry_out

    carry_out("quickstart", store, None, Placement(workers=workers), True, json)
