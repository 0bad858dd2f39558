"""Settings: TOML files, environment and command line, read into frozen, typed values.

`load_settings` gives `Settings` or one ConfigurationError that lists all mistakes.
"""

from daemon.settings.control import ControlSettings
from daemon.settings.exchange import ExchangeSettings
from daemon.settings.live import LiveSettings
from daemon.settings.loading import check_settings, effective, effective_toml, load_settings
from daemon.settings.reference import settings_reference, settings_schema, starter_toml
from daemon.settings.risk import RiskSettings
from daemon.settings.secrets import Secret, mask_login, read_secret, secret_path
from daemon.settings.sections import (
    BacktestSettings,
    EstimatorSettings,
    Irregularity,
    MarketSettings,
    PaperSettings,
    RehearsalSettings,
    RunSettings,
    Settings,
    StrategySettings,
    TrainingSettings,
    UniverseSettings,
)
from daemon.settings.status import MqttSettings, RedisSettings
from daemon.settings.web import WebSettings

__all__ = [
    "BacktestSettings",
    "ControlSettings",
    "EstimatorSettings",
    "ExchangeSettings",
    "Irregularity",
    "LiveSettings",
    "MarketSettings",
    "MqttSettings",
    "PaperSettings",
    "RedisSettings",
    "RehearsalSettings",
    "RiskSettings",
    "RunSettings",
    "Secret",
    "Settings",
    "StrategySettings",
    "TrainingSettings",
    "UniverseSettings",
    "WebSettings",
    "check_settings",
    "effective",
    "effective_toml",
    "load_settings",
    "mask_login",
    "read_secret",
    "secret_path",
    "settings_reference",
    "settings_schema",
    "starter_toml",
]
