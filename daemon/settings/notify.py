"""Settings of notifications: who is told what, by which way, and when not."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator

from daemon.domain.messages import AlertKind
from daemon.settings.fields import Accepts, Section, setting

Level = Literal["info", "warning", "critical"]
_CLOCK = r"^$|^([01]\d|2[0-3]):[0-5]\d$"
_HTTP = r"^$|^https?://[^\s]+$"
_ADDRESS = r"^$|^[^\s<>@]+@[^\s<>@]+$"


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("no such time zone") from None
    return name


def _addresses(values: tuple[str, ...]) -> tuple[str, ...]:
    for one in values:
        local, _, host = one.partition("@")
        if not local or not host or any(c in one for c in "<>, \r\n\t"):
            raise ValueError("not an address")
    return values


def _kinds(table: dict[str, Level]) -> dict[str, Level]:
    known = [str(kind) for kind in AlertKind]
    for name in table:
        if name not in known:
            raise ValueError(f"{name!r} is no kind of alert; known: {', '.join(known)}")
    return table


Zone = Annotated[str, AfterValidator(_zone), Accepts("a time zone: UTC or Europe/Berlin")]
Addresses = Annotated[
    tuple[str, ...],
    AfterValidator(_addresses),
    Accepts("a list of mail addresses", is_text=False),
]
Severities = Annotated[dict[str, Level], AfterValidator(_kinds)]


class NotifySettings(Section):
    """Say who hears of alerts, by which way, and when; losing a way changes no decision."""

    no_decision_s: float = setting(
        120.0,
        "A decision that was not made so long after market.decision_deadline_s is an alert.",
        unit="seconds",
        ge=1,
        le=86_400,
    )
    severity_min: Level = setting("warning", "What is less grave is not sent.")
    severities: Severities = setting(
        {}, "Other severities by kind of alert, as in docs/notifications.md: info, warning..."
    )
    window_min: float = setting(
        15.0,
        "More of one kind and subject within this time are counted and told as one.",
        unit="minutes",
        gt=0,
        le=1440,
    )
    per_hour_max: int = setting(
        12,
        "Messages within an hour, critical ones apart; the others come as a digest.",
        unit="messages",
        ge=1,
        le=1000,
    )
    quiet_from: str = setting(
        "", "Begin of the hours in which only what is critical is sent: 22:00.", pattern=_CLOCK
    )
    quiet_until: str = setting("", "End of these hours: 07:00.", pattern=_CLOCK)
    quiet_zone: Zone = setting("UTC", "Time zone of these hours.")
    webhook_url: str = setting(
        "", "Address that gets a POST of JSON; empty for none.", pattern=_HTTP
    )
    webhook_url_env: str = setting("", "Environment variable that holds it, if it is a secret.")
    webhook_url_file: str = setting("", "File that holds it, if it is a secret.")
    webhook_secret_env: str = setting("", "Environment variable with the key that signs each POST.")
    webhook_secret_file: str = setting("", "File with the key that signs each POST.")
    telegram_chat: str = setting(
        "", "Chat that a Telegram bot writes to, a number or @name; empty for none."
    )
    telegram_token_env: str = setting("", "Environment variable with the bot's token.")
    telegram_token_file: str = setting("", "File with the bot's token.")
    telegram_api: str = setting(
        "https://api.telegram.org", "Address of the bot interface.", pattern=r"^https?://[^\s]+$"
    )
    smtp_host: str = setting("", "Server that takes e-mail; empty for none.", pattern=r"^[^\s/]*$")
    smtp_port: int = setting(587, "Its port: 587, or 465 for tls.", ge=1, le=65535)
    smtp_tls: Literal["starttls", "tls", "none"] = setting(
        "starttls", "How the connection is encrypted; a password needs that it is."
    )
    smtp_ca_file: str = setting("", "Certificates to trust instead of the system's.")
    smtp_username: str = setting("", "User name at the server, if it asks for one.")
    smtp_password_env: str = setting("", "Environment variable that holds the password.")
    smtp_password_file: str = setting("", "File that holds the password.")
    smtp_from: str = setting("", "Address that mails come from.", pattern=_ADDRESS)
    smtp_to: Addresses = setting((), "Addresses that mails go to.")
