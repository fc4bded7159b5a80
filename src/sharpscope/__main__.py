"""``python -m sharpscope`` is the command line."""

from sharpscope.cli import main

main()
