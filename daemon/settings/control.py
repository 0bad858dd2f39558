"""Settings of remote control: who knows the secret may steer the daemon over Redis and MQTT."""

from __future__ import annotations

from daemon.settings.fields import Section, setting


class ControlSettings(Section):
    """Let operators steer over Redis and MQTT; off unless a secret is named."""

    secret_env: str = setting(
        "", "Name of the environment variable that holds the secret, at least 16 bytes."
    )
    secret_file: str = setting("", "File that holds the secret.")
    redis: bool = setting(True, "Take requests from Redis, where a secret is named.")
    mqtt: bool = setting(True, "Take requests over MQTT, where a secret is named.")
    age_s_max: float = setting(
        30.0,
        "A request whose instant is further from this machine's clock is refused.",
        unit="seconds",
        ge=1,
        le=120,
    )
