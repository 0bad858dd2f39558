"""Renew docs/settings.md and config/equipoise.schema.json: `python -m daemon.settings`."""

import sys
from pathlib import Path

from daemon.settings.reference import write_reference

if __name__ == "__main__":
    for path in write_reference(Path(__file__).resolve().parent.parent.parent):
        sys.stdout.write(f"wrote {path}\n")
