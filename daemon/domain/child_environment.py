"""What a child process inherits of the environment: everything but the keys of venues.

A child's environment can be read for as long as it runs, and may be told in a report of its crash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_KEYS: Final = re.compile(r"EQUIPOISE_[A-Z0-9_]+_(?:API_KEY|SECRET|PASSPHRASE)")


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """Give an environment without the variables in which keys of venues stand."""
    return {name: value for name, value in environment.items() if not _KEYS.fullmatch(name)}
