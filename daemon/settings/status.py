"""Settings of where status is shown: Redis and MQTT."""

from __future__ import annotations

from typing import Final

from daemon.settings.fields import Section, setting

_NAME: Final = r"^[a-z0-9][a-z0-9_-]{0,31}$"


class RedisSettings(Section):
    """Say where status is shown; losing it changes no decision."""

    enabled: bool = setting(True, "Show status in Redis.")
    url: str = setting(
        "embedded",
        "embedded starts the packaged server; else redis://, rediss:// or unix://, no password.",
        pattern=r"^embedded$|^(redis|rediss|unix)://",
    )
    binary: str = setting("", "Server program for embedded; empty takes the packaged one.")
    username: str = setting("", "User name at the server, if it asks for one.")
    password_env: str = setting("", "Name of the environment variable that holds the password.")
    password_file: str = setting("", "File that holds the password.")
    namespace: str = setting("equipoise", "First part of every key.", pattern=_NAME)
    stream_length_max: int = setting(
        1000,
        "Entries kept in each stream of decisions, fills and alerts.",
        unit="entries",
        ge=10,
        le=1_000_000,
    )


class MqttSettings(Section):
    """Say which broker hears the same status; empty url means none."""

    url: str = setting(
        "",
        "mqtt://host:1883 or mqtts://host:8883, no password; empty for none.",
        pattern=r"^$|^mqtts?://",
    )
    namespace: str = setting("equipoise", "First part of every topic.", pattern=_NAME)
    username: str = setting("", "User name at the broker, if it asks for one.")
    password_env: str = setting("", "Name of the environment variable that holds the password.")
    password_file: str = setting("", "File that holds the password.")
    tls_ca_file: str = setting("", "Certificates to trust instead of the system's; mqtts only.")
    tls_certificate_file: str = setting("", "Certificate to show to the broker; mqtts only.")
    tls_key_file: str = setting("", "Key of that certificate; mqtts only.")
