"""Apply the house rules of tools/tidy.py to the tree, and show for each rule what it refuses."""

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tools import tidy
from tools.tidy import Finding, Rule, Source

# Where a blanket `except Exception` stands, and why. The list may only shrink: a new entry needs
# the reason that it is the top of the process or a sink whose failure must not stop trading.
BLANKET_HANDLERS = frozenset(
    {
        "daemon/cli.py::run",  # the top of the process: exit code 70 and what to report
        "daemon/wiring/observing.py::observe",  # a display: its failure must not stop trading
        "daemon/runtime/live.py::_noting_failure",  # the top of a task: raised after the shutdown
        "adapters/exchange/several.py::_pump",  # one venue's feed: its failure leaves the others
        "adapters/clocks.py::remeasure_if_due",  # a measurement: time runs on as measured before
        "daemon/wiring/gauging.py::_unfailing_round",  # a sink: series must not stop trading
        "adapters/ccxt_venue/calls.py::run",  # an order may exist whatever was raised: judged
        "adapters/ccxt_venue/streams.py::guarded",  # a private frame: deaf in silence
        "daemon/wiring/bar_recorder.py::put_damaged_aside",  # a look beside trading, as a sink is
        "adapters/exchange/client.py::guarded",  # a frame: the client would go deaf in silence
        "adapters/notify/post.py::attempt",  # a way to people: it must not stop trading
        "daemon/wiring/notifying.py::_keep",  # a sink: what it tells people stops no trading
        "daemon/wiring/runtime_status.py::_keep",  # a display: it measures beside trading
        "daemon/status/listening.py::_run",  # a listener: losing a server must not stop trading
        "daemon/status/outbox.py::_run",  # a sink: losing Redis or MQTT must not stop trading
    }
)

ROOT = Path(__file__).resolve().parent.parent


@functools.cache  # with the trees of its files: each rule reads all of them
def code_sources() -> list[Source]:
    return tidy.read_sources(ROOT, tidy.CODE_ROOMS, {".py"})


def refuse(findings: Iterable[Finding]) -> None:
    lines = [str(finding) for finding in findings]
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


def source(text: str, path: str = "daemon/engine/engine.py") -> Source:
    return Source(path, dedent(text))


def lines_found(rule: Rule, text: str, path: str = "daemon/engine/engine.py") -> list[int]:
    return [finding.line for finding in rule(source(text, path))]


# ---- the tree ------------------------------------------------------------------------------------


def test_the_tree_that_is_checked_is_the_tree_we_work_on() -> None:
    paths = {one.path for one in code_sources()}
    assert {"daemon/package_guard.py", "tests/test_tidy.py", "tools/tidy.py"} <= paths


@pytest.mark.parametrize("rule", tidy.CODE_RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps_the_rule(rule: Rule) -> None:
    refuse(finding for one in code_sources() for finding in rule(one))


def test_blanket_handlers_stand_only_where_the_list_says() -> None:
    refuse(tidy.blanket_handlers_are_listed(code_sources(), BLANKET_HANDLERS))


def test_no_file_names_a_path_of_one_machine() -> None:
    texts = tidy.read_sources(ROOT, (".", *tidy.TEXT_ROOMS), tidy.TEXT_SUFFIXES)
    refuse(finding for one in texts for finding in tidy.no_machine_paths(one))


def test_config_and_deploy_hold_data_only() -> None:
    folders = (ROOT / "config", ROOT / "deploy")
    paths = [p.relative_to(ROOT).as_posix() for folder in folders for p in folder.rglob("*")]
    refuse(tidy.no_packages_in_data_rooms(paths))


def test_the_product_imports_only_what_a_user_has_installed() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    refuse(tidy.imports_are_declared(code_sources(), pyproject))


def test_every_folder_of_ours_is_a_package() -> None:
    refuse(tidy.packages_are_complete(one.path for one in code_sources()))


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("CHANGELOG.md", tidy.changelog_has_unreleased),
        ("pyproject.toml", tidy.dependencies_have_reasons),
        ("requirements/constraints.txt", tidy.constraints_name_no_host),
        ("requirements/peers.txt", tidy.constraints_name_no_host),
    ],
)
def test_the_file_keeps_its_rule(name: str, rule: Rule) -> None:
    refuse(rule(Source(name, (ROOT / name).read_text(encoding="utf-8"))))


# ---- the rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "import time\nnow = time.time()",
        "import time as t\nnow = t.monotonic_ns()",
        "from time import perf_counter as tick\nnow = tick()",
        "from datetime import datetime\nnow = datetime.now(UTC)",
        "import datetime as dt\nnow = dt.datetime.utcnow()",
        "from datetime import date\nnow = date.today()",
        "import time\nclock = time.monotonic  # handed on without a call",
    ],
)
def test_reading_a_clock_is_refused_outside_the_clocks_module(text: str) -> None:
    assert 2 in lines_found(tidy.clocks_live_in_one_place, text, "adapters/exchange/feed.py")
    assert lines_found(tidy.clocks_live_in_one_place, text, "adapters/clocks.py") == []
    assert lines_found(tidy.clocks_live_in_one_place, text, "benchmarks/throughput.py") == []


@pytest.mark.parametrize(
    "text",
    [
        "import time\nzone = time.gmtime(0)",
        "from datetime import datetime\nx = datetime.fromtimestamp(0, UTC)",
        "class Bar:\n    time: int\nt = bar.time",
        "now = self.clock.now()",
    ],
)
def test_other_uses_of_time_are_welcome(text: str) -> None:
    assert lines_found(tidy.clocks_live_in_one_place, text) == []


def test_assert_is_refused_in_the_product_and_welcome_in_tests() -> None:
    text = "def f(x):\n    assert x > 0\n"
    assert lines_found(tidy.no_assert_outside_tests, text) == [2]
    assert lines_found(tidy.no_assert_outside_tests, text, "tests/test_f.py") == []


def test_a_type_ignore_without_a_code_is_refused() -> None:
    bare = "# type" + ": ignore"
    assert lines_found(tidy.no_bare_type_ignore, f"x = 1\ny = f()  {bare}\n") == [2]
    assert lines_found(tidy.no_bare_type_ignore, f"y = f()  {bare}[attr-defined]\n") == []
    assert lines_found(tidy.no_bare_type_ignore, f'y = "{bare}"\n') == []


def function_of(code_lines: int) -> str:
    body = "\n".join(f"    x{n} = {n}\n    # why {n}\n" for n in range(code_lines - 1))
    return f'def f():\n    """Say it.\n\n    More.\n    """\n{body}'


def test_a_function_of_60_code_lines_passes_and_of_61_is_refused() -> None:
    assert lines_found(tidy.functions_are_short, function_of(60)) == []
    assert lines_found(tidy.functions_are_short, function_of(61)) == [1]


def test_a_long_literal_counts_all_its_lines() -> None:
    text = "def f():\n    return [\n" + "        1,\n" * 60 + "    ]\n"
    assert lines_found(tidy.functions_are_short, text) == [1]


def test_a_module_of_500_lines_passes_and_of_501_is_refused() -> None:
    assert lines_found(tidy.modules_are_short, "x = 1\n" * 500) == []
    assert lines_found(tidy.modules_are_short, "x = 1\n" * 501) == [501]


@pytest.mark.parametrize(
    "text",
    [
        "async def f(): ...",
        "import pandas",
        "from scipy.stats import norm",
        "def f():\n    import torch",
    ],
)
def test_domain_and_engine_refuse_async_and_libraries(text: str) -> None:
    assert lines_found(tidy.quiet_rooms_stay_quiet, text, "daemon/engine/risk.py") != []
    assert lines_found(tidy.quiet_rooms_stay_quiet, text, "daemon/domain/bar.py") != []
    assert lines_found(tidy.quiet_rooms_stay_quiet, text, "adapters/history.py") == []


def test_domain_takes_numpy_and_statistics_takes_scipy_as_well() -> None:
    text = (
        "import numpy as np\nfrom decimal import Decimal\nfrom daemon.domain.units import require"
    )
    assert lines_found(tidy.quiet_rooms_stay_quiet, text, "daemon/domain/bar.py") == []
    scipy = "from scipy.stats import norm"
    assert lines_found(tidy.quiet_rooms_stay_quiet, scipy, "daemon/statistics/ic.py") == []


def test_a_file_without_code_is_refused_unless_it_makes_a_package() -> None:
    text = '"""Will hold the ranking."""\n# soon\n'
    assert lines_found(tidy.no_empty_source, text) == [1]
    assert lines_found(tidy.no_empty_source, "") == [1]
    assert lines_found(tidy.no_empty_source, text, "daemon/engine/__init__.py") == []


def test_a_port_with_six_methods_is_refused() -> None:
    methods = "".join(f"    def m{n}(self) -> None: ...\n" for n in range(6))
    small = "class Small(Protocol):\n    def one(self) -> None: ...\n"
    text = f"{small}class Big(Protocol[T]):\n{methods}"
    assert lines_found(tidy.ports_are_small, text, "daemon/ports.py") == [3]


@pytest.mark.parametrize("folder", ["home", "root", "Users", "work", "tmp", "mnt"])
def test_a_path_of_one_machine_is_refused(folder: str) -> None:
    text = f"x = 1\nstate = '/{folder}/me/state'\n"
    assert lines_found(tidy.no_machine_paths, text, "config/paper.toml") == [2]


@pytest.mark.parametrize(
    "text", ["a/home/b", "https://x.org/home/page", "/var/lib/equipoise", "~/home/x"]
)
def test_relative_paths_addresses_and_service_folders_are_welcome(text: str) -> None:
    assert lines_found(tidy.no_machine_paths, text, "docs/index.md") == []


BLANKET = """\
def publish():
    try:
        send()
    except {caught}:
        pass
"""


@pytest.mark.parametrize("caught", ["Exception", "(OSError, Exception)", "BaseException as e"])
def test_a_blanket_handler_is_refused_unless_listed(caught: str) -> None:
    one = source(BLANKET.format(caught=caught), "adapters/redis_status.py")
    place = "adapters/redis_status.py::publish"
    assert [f.line for f in tidy.blanket_handlers_are_listed([one], [])] == [4]
    assert list(tidy.blanket_handlers_are_listed([one], [place])) == []


def test_a_handler_that_tidies_up_and_raises_again_swallows_nothing() -> None:
    text = BLANKET.format(caught="BaseException").replace("pass", "close()\n        raise")
    assert list(tidy.blanket_handlers(source(text))) == []
    swallowing = text.replace("raise", "raise_alarm()")
    assert len(list(tidy.blanket_handlers(source(swallowing)))) == 1


def test_a_bare_except_is_a_blanket_handler() -> None:
    one = source("try:\n    f()\nexcept:\n    pass\n", "daemon/cli.py")
    assert list(tidy.blanket_handlers(one)) == [("daemon/cli.py::<module>", 3)]


def test_the_list_of_blanket_handlers_can_only_shrink() -> None:
    one = source(BLANKET.format(caught="OSError"), "adapters/redis_status.py")
    place = "adapters/redis_status.py::publish"
    findings = list(tidy.blanket_handlers_are_listed([one], [place]))
    assert [f.path for f in findings] == ["adapters/redis_status.py"]


def test_python_in_config_or_deploy_is_refused() -> None:
    paths = ["config/paper.toml", "config/__init__.py", "deploy/x.py", "daemon/cli.py"]
    found = [f.path for f in tidy.no_packages_in_data_rooms(paths)]
    assert found == ["config/__init__.py", "deploy/x.py"]


PROJECT = """\
[project]
dependencies = ["scikit-learn>=1.6,<2", "uvloop>=0.21; sys_platform != 'win32'"]
[project.optional-dependencies]
research = ["lightgbm>=4"]
dev = ["hypothesis>=6"]
"""


@pytest.mark.parametrize("module", ["sklearn.linear_model", "uvloop", "lightgbm", "torch", "json"])
def test_declared_libraries_may_be_imported(module: str) -> None:
    assert list(tidy.imports_are_declared([source(f"import {module}")], PROJECT)) == []


@pytest.mark.parametrize("module", ["requests", "hypothesis"])
def test_an_import_of_what_a_user_lacks_is_refused(module: str) -> None:
    one = source(f"import json\nfrom {module} import x")
    assert [f.line for f in tidy.imports_are_declared([one], PROJECT)] == [2]
    test = source(f"import {module}", "tests/test_x.py")
    assert list(tidy.imports_are_declared([test], PROJECT)) == []


def test_a_folder_of_modules_without_init_is_refused() -> None:
    paths = ["adapters/__init__.py", "adapters/web/page.py", "adapters/clocks.py", "tests/web/x.py"]
    assert [f.path for f in tidy.packages_are_complete(paths)] == ["adapters/web"]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("# Changes\n\n## Unreleased\n\n- Trades on paper.\n", 0),
        ("# Changes\n\n## 0.1.0\n\n- Trades on paper.\n", 1),
        ("# Changes\n\n## Unreleased\n\n## 0.1.0\n\n- Trades on paper.\n", 1),
    ],
)
def test_the_change_log_must_say_something_unreleased(text: str, count: int) -> None:
    assert len(list(tidy.changelog_has_unreleased(Source("CHANGELOG.md", text)))) == count


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ('  "numpy>=2",  # arrays', 0),
        ('  "numpy>=2",', 1),
        ('  "numpy>=2",  #', 1),
        ('  "numpy>=2", "scipy>=1",  # two on one line', 1),
        ("  \"numpy>=2; sys_platform != 'win32'\",  # arrays", 0),
    ],
)
def test_a_dependency_needs_a_line_and_a_reason(line: str, count: int) -> None:
    text = f"[project]\ndependencies = [\n{line}\n]\n"
    assert len(list(tidy.dependencies_have_reasons(Source("pyproject.toml", text)))) == count


@pytest.mark.parametrize("line", ["--index-url x", "numpy @ file:///x", "-e .", "https://x/y.whl"])
def test_a_lock_that_names_a_place_is_refused(line: str) -> None:
    one = Source(
        "requirements/constraints.txt", f"numpy==2.4.6 ; sys_platform == 'linux'\n{line}\n"
    )
    assert [f.line for f in tidy.constraints_name_no_host(one)] == [2]


def test_a_finding_names_file_line_and_remedy() -> None:
    check: Callable[[Source], Iterator[Finding]] = tidy.no_assert_outside_tests
    message = str(next(check(source("assert True", "daemon/cli.py"))))
    assert message == "daemon/cli.py:1: use require(condition, message): -O drops assert"
