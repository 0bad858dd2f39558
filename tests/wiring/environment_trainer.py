"""Stand where a trainer does, and end with its environment as the reason."""

from __future__ import annotations

import json
import os
import sys

if __name__ == "__main__":
    sys.stdout.write(json.dumps({"event": "error", "error": json.dumps(dict(os.environ))}) + "\n")
