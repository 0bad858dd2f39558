"""Tell people of alerts by webhook, Telegram and e-mail: rules, ways, and what an alert is about.

Which notices disturb whom is decided by `daemon.status.notices`; here alerts become notices, with a
subject and with the end of what lasted, and messages go to every way at once. Nothing here waits:
each way has a bounded outbox and a task of its own.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import time
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from adapters.clocks import TransportClock
from adapters.notify import Channel, Mail, MailServer, Post, Telegram, Undelivered, Webhook
from adapters.notify.post import attempt
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import Standing
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import (
    AccountUnread,
    Alert,
    AlertKind,
    Command,
    Event,
    FeedNotice,
    InstrumentChanged,
    PriceDoubted,
    Rescaled,
    Snapshotted,
)
from daemon.domain.units import MINUTE_MS
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from daemon.settings import Settings, read_secret
from daemon.status.notices import (
    SEVERITIES,
    Message,
    Notice,
    NoticeDesk,
    NoticeRules,
    QuietHours,
    Severity,
)

LOOK_S: Final = 1.0  # between two looks at what has waited long enough
_FIXED: Final[Mapping[AlertKind, str]] = {
    AlertKind.HALTED: "trading",
    AlertKind.NO_DECISION: "decision",
}

log = structlog.get_logger()


class Notifier:
    """Be an observer and an alert sink that brings notices to people; never blocks."""

    def __init__(self, channels: Sequence[Channel], rules: NoticeRules, run: str) -> None:
        self._posts = [Post(channel) for channel in channels]
        self._desk = NoticeDesk(rules)
        self._run = run
        self._clock = TransportClock()
        self._halted = False
        self._undecided_ms: int | None = None

    @property
    def shown(self) -> dict[str, Callable[[], Mapping[str, object]]]:
        """Give by name what tells how each way does."""
        return {post.name: post.shown for post in self._posts}

    def observe(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        """Be an observer of the shell."""
        for command in commands:
            if isinstance(command, Alert):
                subject, over = about(command, event, engine)
                self.alert(command, subject, over=over)
        decided_ms = engine.state.decided[-1] if engine.state.decided else 0
        if self._undecided_ms is not None and decided_ms >= self._undecided_ms:
            self._undecided_ms = None
            text = "decisions are made again"
            self.tell(Notice(AlertKind.NO_DECISION, decided_ms, text, "decision", over=True))
        if self._halted and engine.state.trading is not TradingState.HALTED:
            self._halted = False
            text = f"trading state is {engine.state.trading}"
            at_ms = engine.state.now_ms
            self.tell(Notice(AlertKind.HALTED, at_ms, text, "trading", over=True))

    def alert(self, alert: Alert, subject: str = "", *, over: bool = False) -> None:
        """Take an alert with what it is about; over: it tells the end of a condition."""
        self._halted = self._halted or alert.kind is AlertKind.HALTED
        if alert.kind is AlertKind.NO_DECISION:
            self._undecided_ms = alert.at_ms
        subject = subject or _FIXED.get(alert.kind, "")
        self.tell(Notice(alert.kind, alert.at_ms, alert.text, subject, over=over))

    def tell(self, notice: Notice) -> None:
        """Take a notice."""
        self._send(self._desk.take(notice, self._clock.wall_ms()))

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            for post in self._posts:
                post.put(message)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver in the background for as long as the context lasts."""
        async with AsyncExitStack() as stack:
            for post in self._posts:
                await stack.enter_async_context(post.running())
            task = asyncio.create_task(self._keep(), name="notices")
            try:
                yield
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _keep(self) -> None:
        told = False
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self._send(self._desk.due(self._clock.wall_ms()))
            except Exception as failure:  # noqa: BLE001  a mistake here must not silence all
                if not told:
                    log.warning(LogEvent.NOTIFICATIONS_LOST, way="rules", why=repr(failure))
                told = True


def about(alert: Alert, event: Event, engine: Engine) -> tuple[str, bool]:
    """Say what an alert is about, and whether it tells the end of something that lasted."""
    state = engine.state
    match event:
        case FeedNotice() if alert.kind is AlertKind.FEED:
            return f"{event.venue} {event.trouble}", not event.active
        case AccountUnread() if alert.kind is AlertKind.ACCOUNT:
            return event.venue, False
        case Snapshotted() if alert.kind is AlertKind.ACCOUNT:
            return event.snapshot.venue, True
        case PriceDoubted() if alert.kind is AlertKind.INSTRUMENT:
            return engine.universe.symbols[event.index], not event.active
        case InstrumentChanged() if alert.kind is AlertKind.INSTRUMENT:
            return engine.universe.symbols[event.index], event.standing is Standing.TRADING
        case Rescaled() if alert.kind is AlertKind.INSTRUMENT:
            return engine.universe.symbols[event.index], False
        case _ if alert.kind is AlertKind.SERIES:
            name = alert.text.partition(": ")[0]
            return name, name not in state.silent
        case _ if alert.kind is AlertKind.COVARIANCE:
            return "", state.covariance is not None and not state.covariance.note
        case _:
            return _FIXED.get(alert.kind, ""), False


# ---- from settings -----------------------------------------------------------------------------


def rules_of(settings: Settings) -> NoticeRules:
    """Read the rules of notices from settings."""
    notify = settings.notify
    chosen = {AlertKind(kind): Severity(level) for kind, level in notify.severities.items()}
    quiet = None
    if notify.quiet_from:
        begin, end = (time.fromisoformat(t) for t in (notify.quiet_from, notify.quiet_until))
        quiet = QuietHours(begin, end, ZoneInfo(notify.quiet_zone))
    return NoticeRules(
        severities={**SEVERITIES, **chosen},
        least=Severity(notify.severity_min),
        window_ms=round(notify.window_min * MINUTE_MS),
        per_hour_max=notify.per_hour_max,
        quiet=quiet,
    )


def channels_of(settings: Settings) -> list[Channel]:
    """Open the ways that settings name; raises ConfigurationError that quotes no secret."""
    return list(_channels(settings))


def _channels(settings: Settings) -> Iterator[Channel]:
    notify, run = settings.notify, settings.run.run_name
    url = notify.webhook_url or _secret(settings, "webhook_url") or ""
    if url:
        if not url.startswith(("http://", "https://")) or any(c.isspace() for c in url):
            raise ConfigurationError("notify.webhook_url: accepted: http:// or https://")
        yield Webhook(url, run=run, secret=_secret(settings, "webhook_secret"))
    token = _secret(settings, "telegram_token")
    if token:
        if any(not (c.isascii() and (c.isalnum() or c in ":_-")) for c in token):
            raise ConfigurationError("notify.telegram_token: that is no token of a bot")
        yield Telegram(token, notify.telegram_chat, api=notify.telegram_api, run=run)
    if notify.smtp_host:
        yield Mail(_mail_server(settings), notify.smtp_from, notify.smtp_to, run=run)


def _mail_server(settings: Settings) -> MailServer:
    notify = settings.notify
    context = None
    if notify.smtp_tls != "none":
        try:
            context = ssl.create_default_context(cafile=notify.smtp_ca_file or None)
        except (OSError, ssl.SSLError) as e:
            raise ConfigurationError(f"notify.smtp_ca_file = {notify.smtp_ca_file!r}: {e}") from e
    password = _secret(settings, "smtp_password")
    return MailServer(
        notify.smtp_host,
        notify.smtp_port,
        notify.smtp_tls,
        username=notify.smtp_username,
        password=password,
        context=context,
    )


def _secret(settings: Settings, name: str) -> str | None:
    variable, file = (getattr(settings.notify, f"{name}_{kind}") for kind in ("env", "file"))
    found = read_secret(f"notify.{name}", variable=variable, file=file)
    return None if found is None else found.reveal()


def notifier_of(settings: Settings) -> Notifier | None:
    """Make what tells people; None where settings name no way."""
    channels = channels_of(settings)
    if not channels:
        return None
    return Notifier(channels, rules_of(settings), settings.run.run_name)


async def try_out(settings: Settings, names: Sequence[str] = ()) -> dict[str, tuple[bool, str]]:
    """Send one message by each way, or by those named; give by name whether it arrived, and why.

    Raises ConfigurationError for a way that settings do not name.
    """
    channels = {one.name: one for one in channels_of(settings)}
    lacking = [name for name in names if name not in channels]
    if lacking or not channels:
        raise ConfigurationError(
            f"no {lacking[0] if lacking else 'way to people'} in [notify]; "
            f"set are: {', '.join(channels) or 'none'}"
        )
    now_ms = TransportClock().wall_ms()
    text = "a test of the notifications; nothing has happened"
    message = Message(Severity.INFO, "test", "", text, now_ms, now_ms)
    chosen = [channels[name] for name in names] or list(channels.values())
    answers = await asyncio.gather(*(attempt(one, message) for one in chosen))
    return {
        one.name: (not isinstance(answer, Undelivered), str(answer))
        for one, answer in zip(chosen, answers, strict=True)
    }
