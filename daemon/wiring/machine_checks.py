"""What `doctor` looks at on this machine: settings, files and their rights, disk, clock, ports."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import stat
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from adapters.clocks import TransportClock
from daemon.domain.units import DAY_MS
from daemon.runtime.log_file import FILE_BYTES_MAX, FILES_KEPT, log_path
from daemon.settings import Settings
from daemon.wiring.estimator import ModelFacts
from daemon.wiring.findings import Finding, Verdict

DISK_FREE_GB_MIN: Final = 1.0
SYNCS_N: Final = 15
SYNC_BYTES: Final = 4_096  # a page of the journal
SYNC_GOOD_MS: Final = 30.0  # a decision waits for a few of them
SYNC_BAD_MS: Final = 500.0
MODEL_DAYS_MAX: Final = 180
_TIME_ERROR: Final = 5  # what adjtimex gives for a clock that nobody keeps
_TIMEX_BYTES: Final = 512  # more than any platform's struct timex


def machine_checks(settings: Settings) -> Iterator[Finding]:
    """Look at everything that needs neither network nor server."""
    yield _python()
    yield _settings(settings)
    yield from _secrets(settings)
    yield _state_folder(settings)
    yield from _disk(settings)
    yield _time_kept()


def _python() -> Finding:
    python = ".".join(str(n) for n in sys.version_info[:3])
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    verdict = Verdict.GOOD if fits else Verdict.BAD
    return Finding(
        "python", verdict, f"{python}; want 3.11 to 3.13", "" if fits else "install such a Python"
    )


def _settings(settings: Settings) -> Finding:
    """Say what was read; unknown keys and bad values have ended the command before this."""
    sections = settings.model_fields_set
    told = f"every key is known and within its bounds; set are {', '.join(sorted(sections))}"
    return Finding("settings", Verdict.GOOD, told if sections else "all defaults")


# ---- files ---------------------------------------------------------------------------------------


def _secrets(settings: Settings) -> Iterator[Finding]:
    """Look at who may read the files that hold secrets."""
    named = (
        ("redis.password_file", settings.redis.password_file),
        ("mqtt.password_file", settings.mqtt.password_file),
        ("mqtt.tls_key_file", settings.mqtt.tls_key_file),
        ("live.key_file", settings.live.key_file),
    )
    files = [(key, Path(str(path))) for key, path in named if path]
    loose = [(key, path) for key, path in files if path.exists() and _mode(path) & 0o077]
    gone = [(key, path) for key, path in files if not path.exists()]
    for key, path in gone:
        yield Finding(
            "secrets", Verdict.BAD, f"{key}: {path} is not there", f"make it, or mend {key}"
        )
    for key, path in loose:
        text = f"{key}: {path} can be read by others (mode {_mode(path):03o})"
        yield Finding("secrets", Verdict.BAD, text, f"chmod 600 {path}")
    if not gone and not loose:
        text = f"{len(files)} files, each private to its owner" if files else "no files are named"
        yield Finding("secrets", Verdict.GOOD, text)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def existing(path: Path) -> Path:
    """Give the path, or the nearest folder above it that is there."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def _state_folder(settings: Settings) -> Finding:
    wanted = settings.run.state_folder
    folder = existing(wanted)
    if not os.access(folder, os.W_OK):
        return Finding(
            "state folder",
            Verdict.BAD,
            f"{wanted} cannot be written",
            "give its folder to the user that runs the daemon, or set run.state_folder",
        )
    if folder == wanted.resolve() and _mode(folder) & 0o002:
        text = f"{wanted} can be written, but by everybody (mode {_mode(folder):03o})"
        remedy = f"chmod o-w {wanted}: who can write there can command the daemon"
        return Finding("state folder", Verdict.BAD, text, remedy)
    return Finding("state folder", Verdict.GOOD, f"{wanted} can be written")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = existing(settings.run.state_folder)
    free_gb = shutil.disk_usage(folder).free / 1e9
    enough = free_gb >= DISK_FREE_GB_MIN
    logs_mb = FILE_BYTES_MAX * (FILES_KEPT + 1) / 1e6
    yield Finding(
        "disk",
        Verdict.GOOD if enough else Verdict.BAD,
        f"{free_gb:.1f} GB free; want 1 or more; logs take at most {logs_mb:.0f} MB "
        f"({log_path(settings.run.state_folder).parent})",
        "" if enough else "make room, or set run.state_folder to another disk",
    )
    if not os.access(folder, os.W_OK):
        return
    median, worst = sync_ms(folder)
    verdict = Verdict.GOOD if median <= SYNC_GOOD_MS else Verdict.WARNING
    verdict = Verdict.BAD if median > SYNC_BAD_MS else verdict
    yield Finding(
        "disk speed",
        verdict,
        f"{SYNC_BYTES:,} bytes are safe after {median:.1f} ms (median), {worst:.1f} ms at worst; "
        f"want {SYNC_GOOD_MS:.0f} ms",
        ""
        if verdict is Verdict.GOOD
        else "the journal waits for this: use a local disk, no network share or SD card",
    )


def sync_ms(folder: Path) -> tuple[float, float]:
    """Measure median and worst time in ms until a page of a new file is on the disk."""
    clock, taken = TransportClock(), []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS_N):
            begun = clock.monotonic()
            file.write(bytes(SYNC_BYTES))
            file.flush()
            os.fsync(file.fileno())
            taken.append(1000 * (clock.monotonic() - begun))
    return statistics.median(taken), max(taken)


# ---- clock, port, model --------------------------------------------------------------------------


def _time_kept() -> Finding:
    """Ask the kernel whether anybody keeps its clock right, and name the time zone."""
    zone = f"time zone {time.tzname[0]}, which changes nothing: all times here are UTC"
    kept = is_clock_kept()
    if kept is None:
        return Finding("time", Verdict.WARNING, f"cannot tell whether NTP runs; {zone}", _NTP)
    if not kept:
        return Finding("time", Verdict.WARNING, f"nobody keeps the clock right; {zone}", _NTP)
    return Finding("time", Verdict.GOOD, f"kept right by NTP; {zone}")


_NTP: Final = "run chrony or systemd-timesyncd on the machine; `timedatectl` shows it"


def is_clock_kept() -> bool | None:
    """Tell what the kernel says: synchronised or not; None where it cannot be asked."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    answer = int(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))  # modes 0: only reads
    return None if answer < 0 else answer != _TIME_ERROR


def page_port(settings: Settings) -> Finding | None:
    """Tell whether the status page's port is free; None where settings know no page."""
    web = getattr(settings, "web", None)
    if web is None or not getattr(web, "enabled", False):
        return None
    host, port = str(web.host), int(web.port)
    if not port:
        return Finding("page", Verdict.GOOD, "any free port is taken")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as e:
            text = f"{host}:{port} cannot be taken: {e.strerror}"
            remedy = "a daemon that runs has it, which is fine; else set web.port"
            return Finding("page", Verdict.WARNING, text, remedy)
    return Finding("page", Verdict.GOOD, f"{host}:{port} is free")


def model_age(facts: ModelFacts) -> Finding | None:
    """Tell how old the bars are that a model learned from; None for a generated market's."""
    if facts.is_generated or facts.trained_until_ms is None:
        return None
    days = (TransportClock().wall_ms() - facts.trained_until_ms) / DAY_MS
    old = days > MODEL_DAYS_MAX
    return Finding(
        "model age",
        Verdict.WARNING if old else Verdict.GOOD,
        f"its newest bar is {days:.0f} days old; want at most {MODEL_DAYS_MAX}",
        "`equipoise train` makes a newer one" if old else "",
    )
