"""The report page of a real small run: one file that parses, asks nobody for anything."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from daemon.engine.engine import Engine
from daemon.report.backtest_page import render, write_page
from daemon.report.charts import POINTS_MAX, Line, line_chart
from daemon.report.figures import UNDEFINED
from daemon.report.metrics import RunMetrics, measure
from daemon.report.run import Run, RunFacts, period_text
from daemon.report.run_record import BookRow, RunRecord
from daemon.runtime.replay import ReplayShell
from daemon.wiring.backtest import book_row
from tests.engine.world import BAR_MS, MIDNIGHT_MS, FollowForecasts, at, make_engine
from tests.runtime.rig import WARM_BARS, Momentum, funding_of, line_of, panel_of, venue_core

BARS = 48 * 5
Measured = tuple[Run, RunMetrics]
VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})


def recorded(times_ms: Sequence[int], books: Sequence[BookRow]) -> RunRecord:
    record = RunRecord()
    for close_ms, book in zip(times_ms, books, strict=True):
        record.add(close_ms, book)
    return record


@pytest.fixture(scope="module")
def books() -> list[BookRow]:
    """Hold what `run` has recorded."""
    return []


@pytest.fixture(scope="module")
def run(books: list[BookRow]) -> Measured:
    """Replay five days in memory and record them as a backtest does."""
    record = RunRecord()

    def note(close_ms: int, engine: Engine) -> None:
        books.append(book_row(engine))
        record.add(close_ms, books[-1])

    engine = make_engine(FollowForecasts())
    shell = ReplayShell(engine, venue_core(), Momentum(), None, note)
    feed = line_of(panel_of(BARS), funding=funding_of(BARS)).feed
    shell.warm_up(feed.replay(0, at(WARM_BARS)))
    shell.start(at(WARM_BARS), "run")
    result = shell.run(feed.replay(at(WARM_BARS), at(BARS)))
    facts = RunFacts(
        title="Small <run> & sons",
        strategy="follow_forecasts",
        period=period_text(record.times_ms),
        symbols=engine.universe.symbols,
        fills=engine.state.book.ledger.fills,
        orders=engine.state.orders.submitted_n,
        net_weight_worst=engine.state.book.net_weight_worst,
        run_seconds=1.5,
        memory_mb=99.0,
        fingerprint="0123456789abcdef-and-more",
        caveats=("funding missing for 3.0 % <script>alert(1)</script>",),
        settings={"paper": {"fee_bps": 5.0}, "seed": 7},
    )
    return Run(record, result.decisions, [], facts), measure(record)


@pytest.fixture(scope="module")
def text(run: Measured) -> str:
    return render(*run)


class Page(HTMLParser):
    """Collect tags, attributes and text; every opened tag must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_well_formed_and_every_chart_is_valid_svg(text: str) -> None:
    page = Page(text)
    assert page.open == []
    charts = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(charts) == 5
    for chart in charts:
        root = ET.fromstring(chart)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("viewBox")
        assert root.get("width") is None  # the page decides the width
        assert "currentColor" in chart
        assert "#010203" not in chart


def test_the_page_asks_nobody_for_anything(text: str) -> None:
    page = Page(text)
    assert "script" not in page.tags
    for _, name, value in page.attributes:
        if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            assert value.startswith("#")
        if name.startswith("on"):
            pytest.fail(f"{name} is a script")
    assert not re.search(r"url\((?!['\"]?#)", text)
    assert "@import" not in text
    assert "default-src 'none'" in text


def test_the_figures_are_on_the_page(run: Measured, text: str) -> None:
    whole, metrics = run
    record, decisions, facts = whole.record, whole.decisions, whole.facts
    text = " ".join(Page(text).texts)
    for shown in (
        f"{metrics.total_return:+.2%}",
        f"{metrics.sharpe:.2f}",
        f"{metrics.drawdown_max:.2%}",
        f"{metrics.cost_bps:.1f} bps",
        f"{metrics.equity_last:,.2f}",
        f"{metrics.fees:,.2f}",
        f"{metrics.funding:,.2f}",
        f"{metrics.beta_market:+.4f}",
        f"{facts.net_weight_worst:.2%}",
        f"{facts.orders:,} orders",
        f"{facts.fills:,} fills",
        f"of {sum(d.kind == 'traded' for d in decisions):,}",
        "2023-11",
        "BTC/USDT:USDT",
        "2023-11-15T03:30:00Z to 2023-11-20T00:00:00Z",
        "0123456789abcdef",
        "fee_bps = 5.0",
    ):
        assert shown in text, shown
    assert "and-more" not in text
    assert metrics.fees > 0
    assert len(record) == BARS - WARM_BARS


def test_words_from_outside_are_shown_and_never_obeyed(text: str) -> None:
    assert "<script>" not in text
    assert "Small &lt;run&gt; &amp; sons" in text
    assert "funding missing for 3.0 % <script>alert(1)</script>" in Page(text).texts


def test_a_page_is_written_into_a_new_folder(run: Measured, text: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "report.html"
    write_page(path, *run)
    assert path.read_text(encoding="utf-8") == text  # and the same page again


@pytest.mark.parametrize("rows", [1, 2])
def test_the_shortest_runs_have_a_page_that_says_what_it_cannot_know(
    run: Measured, books: list[BookRow], rows: int
) -> None:
    whole, _ = run
    record = recorded(whole.record.times_ms[:rows], books[:rows])
    page = Page(render(Run(record, [], [], whole.facts), measure(record)))
    assert page.open == []
    assert not [text for text in page.texts if re.search(r"\bnan\b", text)]
    why = [value for tag, name, value in page.attributes if (tag, name) == ("abbr", "title")]
    assert why.count("not defined: fewer than 2 daily returns") == 2  # Sharpe and volatility
    assert why.count("not defined: fewer than 3 daily returns") == 5
    assert page.texts.count(UNDEFINED) == len(why)


def test_a_book_that_never_moved_has_no_sharpe_ratio_and_the_page_says_why(
    run: Measured, books: list[BookRow]
) -> None:
    whole, _ = run
    still = [book._replace(equity=1e4, turnover=Decimal(0)) for book in books]
    record = recorded(whole.record.times_ms, still)
    text = render(Run(record, [], [], whole.facts), measure(record))
    for why in ("no variance", "nothing was traded"):
        assert f'<abbr title="not defined: {why}">{UNDEFINED}</abbr>' in text
    assert not [t for t in Page(text).texts if re.search(r"\bnan\b", t)]


def test_a_bar_that_closes_at_midnight_belongs_to_the_month_before(
    run: Measured, books: list[BookRow]
) -> None:
    whole, _ = run
    end_ms = MIDNIGHT_MS + 16 * 48 * BAR_MS  # 2023-12-01T00:00:00Z
    times = [end_ms - (4 - i) * BAR_MS for i in range(5)]
    record = recorded(times, books[:5])
    text = render(Run(record, [], [], whole.facts), measure(record))
    assert "2023-11" in text
    assert "2023-12" not in text.split("By month")[1].split("</table>")[0]


def test_a_long_run_is_thinned_but_keeps_its_ends() -> None:
    n = 5 * POINTS_MAX
    times = [MIDNIGHT_MS + i * BAR_MS for i in range(n)]
    chart = line_chart(
        times, [Line("x", np.random.default_rng(1).normal(size=n), "#3b82c4")], unit="quote"
    )
    path = max(re.findall(r'd="([^"]*)"', chart), key=len)
    assert 1_000 < path.count("L") <= POINTS_MAX
