"""What a sweep in progress says where there is no terminal."""

from __future__ import annotations

from sharpscope.cli.live import Live


def test_plain_lines_tell_of_other_coordinators(capsys) -> None:
    with Live() as live:
        live({"event": "plan", "total": {"runs": 3}, "workers": 2})
        live({"event": "peers", "coordinators": 1, "workers": 3})
        live({"event": "peers", "coordinators": 2, "workers": 5})
        task = {"task": "a", "label": "", "kind": "runs", "results": 1}
        live({"event": "done", **task, "elsewhere": True})
        live({"event": "peers", "coordinators": 0, "workers": 0})
        live._said = float("-inf")
        live({"event": "start", **task, "task": "b"})
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == [
        "3 runs; 2 at a time",
        "sharing the store with 1 other coordinator, 3 more at a time",
        "sharing the store with 2 other coordinators, 5 more at a time",
        "alone in the store again",
    ]
    assert "1/3 done (1 elsewhere)" in lines[4]
