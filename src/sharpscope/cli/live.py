"""Show a sweep in progress: one updated line in a terminal, a plain line every 15 seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from sharpscope.cli.printing import duration
from sharpscope.cli.streams import say, visible
from sharpscope.sweep import SweepProgress

_PLAIN_EVERY = 15.0  # seconds between plain lines, for logs


class Live:
    """Prints the events of `run_tasks`: call it with every event, inside a ``with`` block.

    Everything goes to stderr, so that stdout holds results only.
    """

    def __init__(self) -> None:
        self._progress = SweepProgress()
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._task: Any = None
        self._said = time.monotonic()
        self._began = time.monotonic()

    def __enter__(self) -> Live:
        """Start the live line where there is a terminal."""
        if self._terminal:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"),
                console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("starting", total=1.0, text="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        """End the live line."""
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take note of an event, and show what has changed."""
        name = event["event"]
        if name == "plan":  # the seeds of another look are counted by themselves
            self._progress = SweepProgress()
        self._progress.update(event)
        if name == "plan":
            total = ", ".join(f"{count} {kind}" for kind, count in event["total"].items())
            self.tell(f"{total or 'nothing to do'}; {event['workers']} at a time")
        elif name == "failed":
            self.tell(f"failed: {event['label']}: {event['reason']}")
        elif name == "crashed":
            self.tell(f"worker lost (attempt {event['attempt']}): {event['label']}: {event['reason']}")
        elif name == "peers":
            others = event["coordinators"]
            self.tell(
                f"sharing the store with {others} other coordinator{'s' if others > 1 else ''}, "
                f"{event['workers']} more at a time"
                if others
                else "alone in the store again"
            )
        elif name == "stopping":
            self.tell(
                f"stopping: waiting for {event['running']} running to save ({event['why']}); Ctrl-C again to kill"
            )
        self._show(force=name == "plan")

    def tell(self, text: str) -> None:
        """Print a line above the live one."""
        if self._bar is not None:
            self._bar.console.print(visible(text), markup=False, highlight=False)
        else:
            say(text, error=True)

    def _show(self, force: bool) -> None:
        now = self._progress.snapshot()
        left = f", {duration(now.eta)} left" if now.eta is not None and now.done else ""
        rate = f", {now.rate:.3g}/min" if now.rate is not None and now.done else ""
        trouble = f", {now.failed} failed" if now.failed else ""
        elsewhere = f" ({now.elsewhere} elsewhere)" if now.elsewhere else ""
        text = f"{now.done + now.skipped}/{now.total} done{elsewhere}{trouble}{rate}{left}"
        if self._bar is not None:
            self._bar.update(self._task, completed=now.finished, description="running", text=text)
        elif time.monotonic() - self._said > _PLAIN_EVERY and not force:
            self._said = time.monotonic()
            say(f"[{duration(self._said - self._began)}] {text}", error=True)
