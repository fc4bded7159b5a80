"""The command line: parsing and printing only. Heavy libraries load inside the commands."""

from __future__ import annotations


def main() -> None:
    """Run the command line; exit status 0 done, 1 some runs failed or are damaged, 2 bad input, 130 interrupted."""
    import sys

    try:
        from sharpscope.cli.interrupts import put_off

        with put_off():
            from sharpscope.cli.app import status_of_call

            status = status_of_call()
    except KeyboardInterrupt:  # before or after the command itself
        status = 130
    sys.exit(status)


__all__ = ["main"]
