"""The status page beside a daemon: what its process is told, and what comes of its port."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from adapters.web.beside import WebPage
from daemon.domain.failures import ConfigurationError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import Alert, AlertKind
from daemon.ports import AlertSink
from daemon.settings import Settings, read_secret

ADDRESS_FILE: Final = "page.address"
TOKEN_CHARS_MIN: Final = 16
_log = structlog.get_logger()


def web_page(
    settings: Settings,
    meta: Mapping[str, object],
    alerts: Sequence[AlertSink],
    now: Callable[[], int],
    on_page: Callable[[str], None],
) -> WebPage:
    """Make the page's side of the daemon. now: market time; on_page: hears its address.

    Raises ConfigurationError for a token that is too short or cannot be read.
    """
    folder = settings.run.state_folder
    hello = _hello(settings, meta)
    (folder / ADDRESS_FILE).unlink(missing_ok=True)

    def bound(address: str) -> None:
        _log.info(LogEvent.PAGE_SERVED, address=address)
        _write_address(folder / ADDRESS_FILE, address)
        on_page(address)

    def trouble(why: str) -> None:
        _log.warning(LogEvent.PAGE_NOT_SERVED, why=why)
        alert = Alert(AlertKind.PAGE, now(), f"the status page is not served: {why}")
        for sink in alerts:
            sink.alert(alert)

    command = (sys.executable, "-m", "daemon.wiring.web_process")
    return WebPage(command, lambda: hello, on_bound=bound, on_trouble=trouble)


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


def _hello(settings: Settings, meta: Mapping[str, object]) -> dict[str, object]:
    web, market = settings.web, settings.market
    return {
        "host": web.host,
        "port": web.port,
        "names": list(web.names),
        "token": page_token(settings),
        "clients_max": web.clients_max,
        "state_folder": str(settings.run.state_folder.absolute()),
        "facts": {
            **{name: str(value) for name, value in meta.items()},
            "run": settings.run.run_name,
            "timeframes": list(market.timeframes),
            "decision": market.decision,
            "source": market.source,
            "market_time": settings.exchange.market_time,
        },
    }


def _write_address(path: Path, address: str) -> None:
    try:
        path.write_text(address + "\n", encoding="utf-8")
    except OSError as e:
        _log.warning(LogEvent.PAGE_NOT_SERVED, why=f"its address cannot be written: {e}")
