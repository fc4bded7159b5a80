"""One attempt at a task: prepare its folders, call its function, publish its results."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharpscope.errors import InputError, RanksError, SharpscopeError, StoreError
from sharpscope.sweep.executors.interface import Message
from sharpscope.sweep.store import manifest
from sharpscope.sweep.store.disk_errors import disk_failure, disk_sentence
from sharpscope.sweep.store.owner import own_tag
from sharpscope.sweep.store.store import Store
from sharpscope.sweep.task import Interrupted, Task, TaskContext

if TYPE_CHECKING:
    from sharpscope.sweep.executors.local.peers import OtherRanks

_REPORT_EVERY = 0.05  # seconds


def attempt(
    store: Store,
    task: Task,
    *,
    threads: int,
    send: Callable[[Message], None],
    should_stop: Callable[[], bool],
    peers: OtherRanks | None = None,
) -> None:
    """Make one attempt at a task and publish what it produces.

    Every executor calls this where the task runs. `send` is given the messages of
    `sharpscope.sweep.executors.interface.Message`, all but ``log`` and ``lost``, each with its key ``task``: first
    ``start`` unless everything is there already, and last the one that ends the attempt. Nothing is raised.
    """

    def tell(event: str, **fields: Any) -> None:
        send({"event": event, "task": task.id, **fields})

    try:
        missing = tuple(product for product in task.products if not store.has(product))
        if not missing:  # another coordinator was quicker
            tell("done", published=False)
            return
        workspace, resumed = store.claim_workspace(task.id, task.produces)
        output = store.new_output(task.id)
        try:
            tell("start", resumed=resumed, where=own_tag())
            for product in missing if task.produces else ():
                (output / product).mkdir()
            try:
                context = TaskContext(
                    output=output,
                    workspace=workspace,
                    needs={need: store.intact(need) for need in task.needs},
                    threads=threads,
                    report=_reporter(tell),
                    should_stop=should_stop,
                    missing=missing,
                    ranks=1 if peers is None else peers.ranks,
                    join=_joiner(peers, workspace, threads),
                )
                _load(task.entry)(dict(task.payload), context)
                folders = _results(task, missing, output)
            except BaseException as error:
                disk = disk_failure(error, store.root)
                if isinstance(error, Interrupted) and should_stop():
                    tell("interrupted")
                elif disk is not None:
                    tell("disk", reason=disk_sentence(f"write to the store {store.root}", disk))
                else:
                    if resumed:  # what was resumed from may itself be what is wrong: start afresh next time
                        store.drop_workspace(task.id)
                    tell("failed", reason=_reason(error), traceback=_traceback(error))
            else:
                published = [
                    store.publish(product, folders[product], task.kind, task.needs) for product in missing
                ]
                store.drop_workspace(task.id)
                tell("done", published=any(published))
        finally:
            shutil.rmtree(output, ignore_errors=True)
    except StoreError as error:  # of the store itself, before or after the task's own part
        tell("disk", reason=str(error))


def _results(task: Task, missing: tuple[str, ...], output: Path) -> dict[str, Path]:
    """Return the folder of every result; `InputError` for a result that is missing and for a file out of place."""
    folders = {product: output / product for product in missing} if task.produces else {task.id: output}
    for folder in folders.values():
        if (folder / manifest.NAME).exists():
            raise InputError(
                f"the task wrote a file '{manifest.NAME}', a name the store keeps; choose another"
            )
    if not task.produces:
        return folders
    for product, folder in folders.items():
        if not folder.is_dir() or not any(folder.iterdir()):
            raise InputError(
                f"the task returned without a result '{product}', and it must write at least one file into "
                "context.output / that id; write it or raise an error"
            )
    if foreign := sorted(path.name for path in output.iterdir() if path.name not in folders):
        raise InputError(
            f"the task wrote '{foreign[0]}' beside its results; write into context.output / a missing result's id"
        )
    return folders


def _reporter(tell: Callable[..., None]) -> Callable[[Mapping[str, Any]], None]:
    last = -_REPORT_EVERY

    def report(event: Mapping[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EVERY:
            last = now
            fields = {k: v for k, v in event.items() if k not in ("event", "task")}
            if "fraction" in fields:
                share = fields.pop("fraction")
                if isinstance(share, int | float) and 0.0 <= share <= 1.0:
                    fields["fraction"] = float(share)
            tell("progress", **fields)

    return report


def _joiner(
    peers: OtherRanks | None, workspace: Path, threads: int
) -> Callable[[str, Mapping[str, Any]], contextlib.AbstractContextManager[str]]:
    """Return what a task calls to have the other ranks join it; see `TaskContext`."""

    @contextlib.contextmanager
    def join(entry: str, payload: Mapping[str, Any]) -> Iterator[str]:
        if peers is None:
            raise InputError("this worker has one rank, so that no other can join it; start it with more")
        address = peers.call(entry, payload, workspace, threads)
        try:
            yield address
        except Interrupted:
            peers.settle(failed=False)
            raise
        except Exception as error:
            trouble = peers.settle(failed=True)
            if trouble is not None and not isinstance(error, SharpscopeError):
                raise RanksError(f"{trouble}; the other ranks had to stop") from error
            raise
        if (trouble := peers.settle(failed=False)) is not None:
            raise RanksError(f"{trouble}; run it again")

    return join


def _load(entry: str) -> Callable[[dict[str, Any], TaskContext], None]:
    module, _, name = entry.partition(":")
    function: Callable[[dict[str, Any], TaskContext], None] = getattr(importlib.import_module(module), name)
    return function


def _traceback(error: BaseException) -> str:
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    return "".join(traceback.format_exception(type(error), error, frames))


def _reason(error: BaseException) -> str:
    """Return one line that says what went wrong."""
    if isinstance(error, Interrupted):
        return "the task stopped itself though nobody asked it to; it must run to its end or raise an error"
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, SharpscopeError) and first:
        return first
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
