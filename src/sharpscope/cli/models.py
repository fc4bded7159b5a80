"""``sharpscope models``."""

from __future__ import annotations

from dataclasses import asdict

from sharpscope.cli.options import Json


def models(json: Json = False) -> None:
    """List the models: parameters at their reference setting, the papers that use them, their options.

    Use your own with model = "package.module:factory" in a study; the factory returns an nn.Module.
    """
    from sharpscope.cli.printing import print_json, print_table
    from sharpscope.models import catalogue

    listed = catalogue()
    if json:
        print_json([asdict(m) for m in listed])
        return
    print_table(
        ["name", "parameters", "papers", "what it is"],
        [[m.name, f"{m.parameters:,}", ", ".join(m.papers) or "–", m.title] for m in listed],
        right=[1],
    )
    print("\nOptions and defaults: sharpscope models --json")
