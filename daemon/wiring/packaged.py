"""Find the data files that come with the program, in a checkout and in an installed wheel.

A wheel carries `config/` inside the daemon's own package, because a top-level folder of that name
in an environment could be anybody's; a checkout has it beside the packages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from daemon.domain.failures import ConfigurationError

_DAEMON: Final = Path(__file__).resolve().parents[1]
_HOMES: Final = (_DAEMON, _DAEMON.parent)


def packaged_file(name: str) -> Path:
    """Give the path of a file such as `config/paper.toml`.

    Raises ConfigurationError where the installation lacks it.
    """
    for home in _HOMES:
        path = home / name
        if path.exists():
            return path
    raise ConfigurationError(f"{name} is missing from the installation in {_DAEMON.parent}")
