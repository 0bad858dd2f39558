"""Settings of notifications: who is told what, where, and when not."""

from __future__ import annotations

from daemon.settings.fields import Section, setting


class NotifySettings(Section):
    """Say who hears of alerts, and by which way; losing a way changes no decision."""

    no_decision_s: float = setting(
        120.0,
        "A decision that was not made so long after market.decision_deadline_s is an alert.",
        unit="seconds",
        ge=1,
        le=86_400,
    )
