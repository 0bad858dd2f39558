"""Set up logging: one stream, structlog for us and for libraries, secrets scrubbed.

Entries go to stderr, as text for people or one JSON object a line; stdout stays free for results.
Event names are constants of `daemon.domain.log_events`. Wall time is always there; market time is
added when a clock is handed in, because in a rehearsal the two are far apart.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from daemon.domain.units import iso

MASK: Final = "***"
TAIL_CHARS_MAX: Final = 600
_TOLD: Final = ("level", "timestamp")  # has a place of its own
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
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _renderer(as_json=as_json, colours=target.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class LogTail(logging.Handler):
    """Tell every entry to someone who shows the newest; from whatever thread it comes.

    tell: gets `at_ms` (wall time), `level`, `event` and `text`, all scrubbed.
    """

    def __init__(self, tell: Callable[[dict[str, object]], None]) -> None:
        super().__init__()
        self._tell = tell
        self._scrub = scrub()

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one entry."""
        entry: EventDict = {"event": record.getMessage()}
        if isinstance(record.msg, dict):
            entry = record.msg
        clean = cast(dict[str, Any], self._scrub(None, "", entry))
        event = str(clean.pop("event", ""))
        parts = [f"{k}={v}" for k, v in clean.items() if not k.startswith("_") and k not in _TOLD]
        self._tell(
            {
                "at_ms": int(record.created * 1000),
                "level": record.levelname.lower(),
                "event": event[:TAIL_CHARS_MAX],
                "text": " ".join(parts)[:TAIL_CHARS_MAX],
            }
        )


@contextmanager
def log_tail(tell: Callable[[dict[str, object]], None]) -> Iterator[None]:
    """Tell every entry of this process for as long as the context lasts."""
    tail, root = LogTail(tell), logging.getLogger()
    root.addHandler(tail)
    try:
        yield
    finally:
        root.removeHandler(tail)


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
