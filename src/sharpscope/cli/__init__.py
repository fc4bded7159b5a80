"""The command line: parsing and printing only. Heavy libraries load inside the commands."""

from __future__ import annotations


def main() -> None:
    """Run the command line; exit status 0 done, 1 some runs failed or are damaged, 2 bad input, 130 interrupted."""
    import os
    import signal
    import sys

    def send_again(what: sys.UnraisableHookArgs) -> None:
        """Send a Ctrl-C again that fell into a callback, where Python can only print it and go on."""
        if isinstance(what.exc_value, KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        else:
            before(what)

    before, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        from sharpscope.cli.app import status_of_call

        status = status_of_call()
    except KeyboardInterrupt:  # during the imports of the command line itself
        status = 130
    finally:
        sys.unraisablehook = before
    sys.exit(status)


__all__ = ["main"]
