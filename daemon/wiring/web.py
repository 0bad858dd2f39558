"""The status page beside a daemon: what its process is told, and what comes of its port."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from adapters.web.beside import WebPage
from daemon.domain.failures import ConfigurationError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import Alert, AlertKind
from daemon.ports import AlertSink
from daemon.settings import Settings, read_secret

KEPT_VARIABLES: Final = (
    *("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ"),
    "XDG_STATE_HOME",  # where the latches of accounts lie
)
ADDRESS_FILE: Final = "page.address"
TOKEN_CHARS_MIN: Final = 16
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PageSeat:
    """Hold what the page is told of a session, and who hears its address.

    now: market time in ms. speed: market time per wall time.
    """

    now: Callable[[], int] = lambda: 0
    speed: float = 1.0
    on_page: Callable[[str], None] = lambda address: None


def web_page(
    settings: Settings, meta: Mapping[str, object], alerts: Sequence[AlertSink], seat: PageSeat
) -> WebPage:
    """Make the page's side of the daemon.

    Raises ConfigurationError for a token that is too short or cannot be read.
    """
    folder = settings.run.state_folder
    hello = _hello(settings, meta, seat)
    forget_address(settings)

    def bound(address: str) -> None:
        _log.info(LogEvent.PAGE_SERVED, address=address)
        _write_address(folder / ADDRESS_FILE, address)
        seat.on_page(address)

    def trouble(why: str) -> None:
        _log.warning(LogEvent.PAGE_NOT_SERVED, why=why)
        alert = Alert(AlertKind.PAGE, seat.now(), f"the status page is not served: {why}")
        for sink in alerts:
            sink.alert(alert)

    # -P: no module of the folder that the daemon was started in comes before ours
    command = (sys.executable, "-P", "-m", "daemon.wiring.web_process")
    return WebPage(
        command,
        lambda: hello,
        seat.now,
        on_bound=bound,
        on_trouble=trouble,
        environment=_environment(os.environ),
    )


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Give the page's process what it needs of our environment: no key of an exchange is in it."""
    kept = {name: value for name, value in ours.items() if name in KEPT_VARIABLES}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[2])}


def page_token(settings: Settings) -> str:
    """Read the token for commands from where settings say it is; '' without one."""
    web = settings.web
    secret = read_secret("web.token", variable=web.token_env, file=web.token_file)
    token = "" if secret is None else secret.reveal()
    if token and len(token) < TOKEN_CHARS_MIN:
        raise ConfigurationError(
            f"web.token: {len(token)} characters are too few; accepted: {TOKEN_CHARS_MIN} or more"
        )
    return token


def _hello(settings: Settings, meta: Mapping[str, object], seat: PageSeat) -> dict[str, object]:
    web, market = settings.web, settings.market
    is_stepped = settings.exchange.market_time == "lockstep"
    return {
        "host": web.host,
        "port": web.port,
        "names": list(web.names),
        "token": page_token(settings),
        "private": web.private,
        "clients_max": web.clients_max,
        "state_folder": str(settings.run.state_folder.absolute()),
        "facts": {
            **{name: str(value) for name, value in meta.items()},
            "run": settings.run.run_name,
            "timeframes": list(market.timeframes),
            "decision": market.decision,
            "source": market.source,
            "speed": None if is_stepped else seat.speed,
        },
    }


def forget_address(settings: Settings) -> None:
    """Take the address away: nothing is served there any more."""
    with suppress(OSError):
        (settings.run.state_folder / ADDRESS_FILE).unlink(missing_ok=True)


def _write_address(path: Path, address: str) -> None:
    try:
        path.write_text(address + "\n", encoding="utf-8")
    except OSError as e:
        _log.warning(LogEvent.PAGE_NOT_SERVED, why=f"its address cannot be written: {e}")
