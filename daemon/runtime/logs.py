"""Set up logging: one stream, structlog for us and for libraries, secrets scrubbed.

Entries go to stderr, as text for people or one JSON object a line; stdout stays free for results.
A daemon keeps a file of them as well (`log_file`).
Event names are constants of `daemon.domain.log_events`. Wall time is always there; market time is
added when a clock is handed in, because in a rehearsal the two are far apart.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from daemon.domain.units import iso

MASK: Final = "***"
SECRET_CHARS_MIN: Final = 4  # masking shorter texts would blot out ordinary words
_SECRET_KEY = re.compile(
    r"passw|secret|token|api_?key|private_?key|credential|signature", re.IGNORECASE
)
_URL_LOGIN = re.compile(r"(?<=://)[^/@\s]*@")
# These tell every connection and every retry; what matters of it, we tell ourselves.
_CHATTY: Final = ("aiohttp", "asyncio", "ccxt", "mqtt", "urllib3", "matplotlib")


def configure_logs(
    level: str = "info",
    *,
    as_json: bool = False,
    stream: TextIO | None = None,
    secrets: Collection[str] = (),
    market_time: Callable[[], int] | None = None,
) -> None:
    """Send all logging of this process, ours and the libraries', to one stream (stderr).

    `secrets` are texts that must never appear, wherever they turn up. `market_time` gives ms since
    the epoch. Calling it again replaces the set-up.
    """
    target = sys.stderr if stream is None else stream
    shared = _shared_processors(secrets, market_time)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setLevel(level.upper())  # a log file may be told more
    handler.setFormatter(_formatter(shared, _renderer(as_json=as_json, colours=target.isatty())))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def json_formatter(secrets: Collection[str] = ()) -> logging.Formatter:
    """Make a formatter that writes an entry as one JSON object, secrets scrubbed."""
    return _formatter(_shared_processors(secrets, None), _renderer(as_json=True, colours=False))


def _formatter(shared: list[Processor], renderer: Processor) -> logging.Formatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _shared_processors(
    secrets: Collection[str], market_time: Callable[[], int] | None
) -> list[Processor]:
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if market_time is not None:
        processors.append(stamp_market_time(market_time))
    # the traceback becomes text first, so that secrets inside it are found too
    return [*processors, structlog.processors.format_exc_info, scrub(secrets)]


def _renderer(*, as_json: bool, colours: bool) -> Processor:
    if as_json:
        return structlog.processors.JSONRenderer(default=str)
    return structlog.dev.ConsoleRenderer(
        colors=colours, exception_formatter=structlog.dev.plain_traceback
    )


def stamp_market_time(now: Callable[[], int]) -> Processor:
    """Make a processor that adds the market time to every entry."""

    def stamp(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
        entry["market_time"] = iso(now())
        return entry

    return stamp


def scrub(secrets: Collection[str] = ()) -> Processor:
    """Make a processor that masks known secrets, fields named like secrets, and logins in URLs."""
    known = sorted((s for s in secrets if len(s) >= SECRET_CHARS_MIN), key=len, reverse=True)

    def clean_text(text: str) -> str:
        for secret in known:
            text = text.replace(secret, MASK)
        return _URL_LOGIN.sub(f"{MASK}@", text)

    def clean(value: Any) -> Any:
        match value:
            case str():
                return clean_text(value)
            case Mapping():
                return {k: MASK if _is_secret(k) else clean(v) for k, v in value.items()}
            case list() | tuple():
                return [clean(item) for item in value]
            case BaseException():
                return clean_text(f"{type(value).__name__}: {value}")
            case _:
                return value

    def processor(_: WrappedLogger, __: str, entry: EventDict) -> EventDict:
        cleaned: MutableMapping[str, Any] = {}
        for key, value in entry.items():
            # structlog keeps the original record under names with an underscore
            keep = key.startswith("_")
            cleaned[key] = value if keep else MASK if _is_secret(key) else clean(value)
        return cleaned

    return processor


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and _SECRET_KEY.search(key) is not None
