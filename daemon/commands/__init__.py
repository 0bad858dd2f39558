"""The commands of the command line, one module a family. They parse, call wiring, and print."""

from __future__ import annotations

from typing import Final

READER_GONE_EXIT: Final = 141  # what a shell reports of a program that SIGPIPE ended
