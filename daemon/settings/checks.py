"""Checks that look at several settings at once, where each alone is fine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from daemon.domain.units import Timeframe, instant_ms
from daemon.settings.secrets import has_login
from daemon.settings.sections import Settings


@dataclass(frozen=True, slots=True)
class Conflict:
    """Name the setting that is to be changed, and why."""

    key: str
    why: str


def conflicts(settings: Settings, *, of_backtest: bool = False) -> Iterator[Conflict]:
    """Yield everything that does not fit together.

    of_backtest: for a command that reads the files of `backtest.source`, which replaces
    `market.source` there.
    """
    yield from _bars(settings, of_backtest=of_backtest)
    yield from _risk(settings)
    yield from _execution(settings, of_backtest=of_backtest)
    yield from _exchange(settings)
    yield from _logins(settings)
    yield from _notify(settings)
    yield from _rehearsal(settings)
    yield from _backtest(settings)
    yield from _covariance(settings)


def _bars(settings: Settings, *, of_backtest: bool) -> Iterator[Conflict]:
    market = settings.market
    source = Timeframe.parse(settings.backtest.source if of_backtest else market.source)
    minutes = [Timeframe.parse(label).minutes for label in market.timeframes]
    if len(set(minutes)) != len(minutes):
        yield Conflict("market.timeframes", "a bar length is listed twice")
    name = "backtest.source" if of_backtest else "market.source"
    why = f"is not a multiple of {name} {source.label}"
    for label, length in zip(market.timeframes, minutes, strict=True):
        if length % source.minutes:
            yield Conflict("market.timeframes", f"{label} {why}")
    if Timeframe.parse(market.decision).minutes % source.minutes:
        yield Conflict("market.decision", f"{market.decision} {why}")
    if market.decision_deadline_s * 1000 >= Timeframe.parse(market.decision).ms:
        yield Conflict(
            "market.decision_deadline_s", f"must be shorter than market.decision {market.decision}"
        )


def _covariance(settings: Settings) -> Iterator[Conflict]:
    if settings.covariance.estimator != "none" and "1h" not in settings.market.timeframes:
        yield Conflict(
            "covariance.estimator",
            f"is made of bars of 1h, and market.timeframes = {list(settings.market.timeframes)}",
        )


def _risk(settings: Settings) -> Iterator[Conflict]:
    risk = settings.risk
    if risk.name_weight_max > risk.gross_weight_max:
        yield Conflict(
            "risk.name_weight_max",
            f"must not exceed risk.gross_weight_max {risk.gross_weight_max}",
        )
    if risk.net_weight_max > risk.gross_weight_max:
        yield Conflict(
            "risk.net_weight_max", f"must not exceed risk.gross_weight_max {risk.gross_weight_max}"
        )
    # turning a full long into a full short takes twice the weight of a name
    if risk.order_weight_max > 2 * risk.name_weight_max:
        yield Conflict(
            "risk.order_weight_max",
            f"must not exceed twice risk.name_weight_max {risk.name_weight_max}",
        )


def _execution(settings: Settings, *, of_backtest: bool) -> Iterator[Conflict]:
    execution, decision = settings.execution, settings.market.decision
    longest_s = Timeframe.parse(decision).ms / 1000
    takes_time = execution.style == "passive" or execution.twap_slices_n > 1
    if of_backtest and takes_time and settings.backtest.source == decision:
        yield Conflict(
            "execution.style",
            "passive and execution.twap_slices_n need bars shorter than market.decision "
            f"{decision} in a backtest, which has no time between bars",
        )
    if execution.twap_slices_n > 1 and not execution.twap_window_s:
        yield Conflict("execution.twap_window_s", "is needed for execution.twap_slices_n above 1")
    if execution.passive_s + execution.twap_window_s >= longest_s:
        yield Conflict(
            "execution.passive_s",
            f"and execution.twap_window_s {execution.twap_window_s} must together be shorter than "
            f"market.decision {decision}, which ends what the last decision left",
        )


def _exchange(settings: Settings) -> Iterator[Conflict]:
    exchange = settings.exchange
    if exchange.market_time == "lockstep" and not exchange.lockstep_url:
        yield Conflict("exchange.lockstep_url", 'is needed for exchange.market_time "lockstep"')
    deadline_s = settings.market.decision_deadline_s
    if exchange.stream_patience_s + exchange.reread_patience_s >= deadline_s:
        yield Conflict(
            "exchange.stream_patience_s",
            f"and exchange.reread_patience_s {exchange.reread_patience_s} must together be shorter "
            f"than market.decision_deadline_s {deadline_s}, or REST answers a decision too late",
        )


def _logins(settings: Settings) -> Iterator[Conflict]:
    redis, mqtt = settings.redis, settings.mqtt
    for name, part in (("redis", redis), ("mqtt", mqtt)):
        if has_login(part.url):
            yield Conflict(
                f"{name}.url",
                f"must not carry a login: use {name}.username and {name}.password_env "
                f"or {name}.password_file",
            )
        if part.password_env and part.password_file:
            yield Conflict(f"{name}.password_file", f"and {name}.password_env exclude each other")
    if (mqtt.password_env or mqtt.password_file) and not mqtt.username:
        yield Conflict("mqtt.username", "is needed with a password")
    if settings.control.secret_env and settings.control.secret_file:
        yield Conflict("control.secret_file", "and control.secret_env exclude each other")
    tls = (mqtt.tls_ca_file, mqtt.tls_certificate_file, mqtt.tls_key_file)
    if any(tls) and not mqtt.url.startswith("mqtts://"):
        yield Conflict("mqtt.url", "must begin with mqtts:// when TLS files are given")
    if bool(mqtt.tls_certificate_file) != bool(mqtt.tls_key_file):
        yield Conflict("mqtt.tls_key_file", "and mqtt.tls_certificate_file are needed together")
    if settings.web.token_env and settings.web.token_file:
        yield Conflict("web.token_file", "and web.token_env exclude each other")
    if settings.web.private and not (settings.web.token_env or settings.web.token_file):
        yield Conflict("web.private", "needs web.token_file or web.token_env")


def _notify(settings: Settings) -> Iterator[Conflict]:
    notify = settings.notify
    for name in ("webhook_url", "webhook_secret", "telegram_token", "smtp_password"):
        if getattr(notify, f"{name}_env") and getattr(notify, f"{name}_file"):
            yield Conflict(f"notify.{name}_file", f"and notify.{name}_env exclude each other")
    hidden = notify.webhook_url_env or notify.webhook_url_file
    if notify.webhook_url and hidden:
        yield Conflict("notify.webhook_url", "and its _env or _file exclude each other")
    for name in ("webhook_url", "telegram_api"):
        if has_login(getattr(notify, name)):
            yield Conflict(f"notify.{name}", "must not carry a login: use the _env or _file keys")
    if (notify.webhook_secret_env or notify.webhook_secret_file) and not (
        notify.webhook_url or hidden
    ):
        yield Conflict("notify.webhook_url", "is needed with a key that signs")
    if bool(notify.telegram_chat) != bool(notify.telegram_token_env or notify.telegram_token_file):
        yield Conflict("notify.telegram_chat", "and the bot's token are needed together")
    if bool(notify.quiet_from) != bool(notify.quiet_until):
        yield Conflict("notify.quiet_from", "and notify.quiet_until are needed together")
    yield from _mail(settings)


def _mail(settings: Settings) -> Iterator[Conflict]:
    notify = settings.notify
    password = notify.smtp_password_env or notify.smtp_password_file
    if notify.smtp_host and not (notify.smtp_from and notify.smtp_to):
        yield Conflict("notify.smtp_host", "needs notify.smtp_from and notify.smtp_to")
    if password and not notify.smtp_username:
        yield Conflict("notify.smtp_username", "is needed with a password")
    if password and notify.smtp_tls == "none":
        yield Conflict("notify.smtp_tls", "would send the password readably: use starttls or tls")


def _rehearsal(settings: Settings) -> Iterator[Conflict]:
    rehearsal = settings.rehearsal
    source = Timeframe.parse(rehearsal.source)
    if source.minutes % rehearsal.base_minutes:
        yield Conflict("rehearsal.base_minutes", f"must divide rehearsal.source {rehearsal.source}")
    if rehearsal.start and rehearsal.until and rehearsal.start >= rehearsal.until:
        yield Conflict("rehearsal.until", "must be after rehearsal.start")
    for number, item in enumerate(rehearsal.irregularities):
        key = f"rehearsal.irregularities[{number}]"
        if item.open is None or not source.closes_at(instant_ms(item.open)):
            yield Conflict(f"{key}.open", f"must be an opening of {rehearsal.source} bars")
        if (item.kind == "late") != (item.delay_s > 0):
            yield Conflict(f"{key}.delay_s", "must be above 0 for a late bar, and only for one")


def _backtest(settings: Settings) -> Iterator[Conflict]:
    backtest = settings.backtest
    if backtest.since and backtest.until and backtest.since >= backtest.until:
        yield Conflict("backtest.until", "must be after backtest.since")
