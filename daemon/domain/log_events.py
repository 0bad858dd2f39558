"""The names of everything that is logged: constants in snake_case past tense, in one place.

A log entry is `name` plus fields whose keys carry units; tests and people search by these names.
"""

from __future__ import annotations

from enum import StrEnum


class LogEvent(StrEnum):
    """Name what happened."""

    STATUS_SERVER_LOST = "status_server_lost"
    STATUS_SERVER_RETURNED = "status_server_returned"
    STATUS_VALUE_REFUSED = "status_value_refused"
    RUNTIME_NOT_SHOWN = "runtime_not_shown"
    NOTIFICATIONS_LOST = "notifications_lost"
    NOTIFICATIONS_RETURNED = "notifications_returned"
    PAGE_SERVED = "page_served"
    PAGE_NOT_SERVED = "page_not_served"
    REDIS_STARTED = "embedded_redis_started"
    REDIS_ENDED = "embedded_redis_ended"
    REDIS_NOT_RESTARTED = "embedded_redis_not_restarted"
    REDIS_LEFTOVER_STOPPED = "embedded_redis_leftover_stopped"
    REDIS_DATA_SET_ASIDE = "embedded_redis_data_set_aside"
    ENGINE_RECOVERED = "engine_recovered"
    SNAPSHOT_PASSED_OVER = "snapshot_passed_over"
    SETTING_PASSED_OVER = "setting_passed_over"
    SETTINGS_CHANGED = "settings_changed"
    TRADING_STARTED = "trading_started"
    TRADING_STOPPED = "trading_stopped"
    ALERT_RAISED = "alert_raised"
    TASK_FAILED = "task_failed"
    SHUTDOWN_LATE = "shutdown_late"
    OBSERVER_DROPPED = "observer_dropped"
    BAR_REMOVED = "bar_removed"
    BARS_REMOVED = "bars_removed"
    BAR_FLAGGED = "bar_flagged"
    INSTANT_JUDGED_EARLY = "instant_judged_early"
    SERIES_NOT_READ = "series_not_read"
    SERIES_SILENT = "series_silent"
    SERIES_NOT_COLLECTED = "series_not_collected"
    SERIES_COLLECTED = "series_collected"
    BARS_NOT_STORED = "bars_not_stored"
    BARS_STORED = "bars_stored"
    FILE_SET_ASIDE = "file_set_aside"
    FILE_UNCHECKED = "file_unchecked"
    OPERATOR_OBEYED = "operator_obeyed"
    OPERATOR_REFUSED = "operator_refused"
    OPERATORS_UNHEARD = "operators_unheard"
    OPERATORS_HEARD_AGAIN = "operators_heard_again"
    DAY_NOT_SUMMED_UP = "day_not_summed_up"
    COMMANDS_UNHEARD = "commands_unheard"
    COMMANDS_HEARD_AGAIN = "commands_heard_again"
    COMMAND_TAKEN = "command_taken"
    COMMANDS_REFUSED = "commands_refused"
    LOG_FILE_REFUSED = "log_file_refused"
    LOG_ENTRIES_LOST = "log_entries_lost"
