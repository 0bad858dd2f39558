"""Show that a test cannot skip itself unseen, because a skip hides a missing install step."""

from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parent / "conftest.py"
SETTINGS = """
[pytest]
markers = real_data: needs recorded data
addopts = -p no:cacheprovider
asyncio_default_fixture_loop_scope = function
"""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """Set up an inner run with our conftest, in a folder without recorded data beside it."""
    text = CONFTEST.read_text(encoding="utf-8").replace('pytest_plugins = ["pytester"]\n', "")
    pytester.makeconftest(text)
    pytester.makeini(SETTINGS)
    return pytester


def test_a_skip_is_a_failure_that_names_the_reason(inner: pytest.Pytester) -> None:
    inner.makepyfile("import pytest\ndef test_x():\n    pytest.skip('no server here')\n")
    outcome = inner.runpytest_inprocess("-p", "no:valkey")
    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*skipped itself*no server here*"])


def test_a_skip_of_a_whole_module_is_an_error(inner: pytest.Pytester) -> None:
    inner.makepyfile("import pytest\npytest.importorskip('equipoise_absent')\ndef test_x(): ...\n")
    outcome = inner.runpytest_inprocess("-p", "no:valkey")
    outcome.assert_outcomes(errors=1)


def test_a_test_of_real_data_skips_with_its_reason_where_there_is_none(
    inner: pytest.Pytester,
) -> None:
    inner.makepyfile(
        "import pytest\n@pytest.mark.real_data\ndef test_x(recorded_data):\n    assert False\n"
    )
    outcome = inner.runpytest_inprocess("-p", "no:valkey", "-rs")
    outcome.assert_outcomes(skipped=1)
    outcome.stdout.fnmatch_lines(["*no recorded market data*"])


def test_an_expected_failure_stays_one(inner: pytest.Pytester) -> None:
    inner.makepyfile("import pytest\n@pytest.mark.xfail\ndef test_x():\n    assert False\n")
    inner.runpytest_inprocess("-p", "no:valkey").assert_outcomes(xfailed=1)
