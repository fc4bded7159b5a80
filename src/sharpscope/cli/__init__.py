"""The command line: parsing and printing only. Heavy libraries load inside the commands."""

from sharpscope.cli.app import main

__all__ = ["main"]
