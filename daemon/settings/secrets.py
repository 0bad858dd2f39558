"""Secrets: they come from the environment or from a file, never from TOML, and print as `***`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from daemon.domain.failures import ConfigurationError

MASK = "***"
_URL_LOGIN = re.compile(r"(?<=://)[^/@\s]*@")


class Secret:
    """Hold a text that no log, message or traceback may show; `reveal` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Give the secret itself."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def read_secret(
    key: str, *, variable: str, file: str, environment: Mapping[str, str] | None = None
) -> Secret | None:
    """Read the secret of `key` from the named variable or file; None when neither is named.

    Raises ConfigurationError when what is named does not exist or is empty.
    """
    if variable:
        text = (os.environ if environment is None else environment).get(variable, "")
        if not text:
            raise ConfigurationError(
                f"{key}_env = {variable!r}: the environment has no variable of this name, "
                "or it is empty"
            )
        return Secret(text)
    if not file:
        return None
    try:
        text = secret_path(file, environment).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigurationError(f"{key}_file = {file!r}: cannot be read: {e}") from e
    if not text:
        raise ConfigurationError(f"{key}_file = {file!r}: the file is empty")
    return Secret(text)


def secret_path(file: str, environment: Mapping[str, str] | None = None) -> Path:
    """Give the place of a secret: a bare name lies in $CREDENTIALS_DIRECTORY where it is there.

    A service manager hands secrets over in that folder, which only the service can read.
    """
    folder = (os.environ if environment is None else environment).get("CREDENTIALS_DIRECTORY", "")
    if folder and "/" not in file and (Path(folder) / file).is_file():
        return Path(folder) / file
    return Path(file)


def mask_login(text: str) -> str:
    """Replace user and password inside addresses by `***`."""
    return _URL_LOGIN.sub(f"{MASK}@", text)


def has_login(text: str) -> bool:
    """Tell whether an address carries a user or a password."""
    return _URL_LOGIN.search(text) is not None
