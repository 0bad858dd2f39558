"""Renew the tables of docs/redis.md and docs/redis.schema.json: `python -m daemon.status`."""

import sys
from pathlib import Path

from daemon.status.contract_pages import write_contract

if __name__ == "__main__":
    for path in write_contract(Path(__file__).resolve().parent.parent.parent):
        sys.stdout.write(f"wrote {path}\n")
