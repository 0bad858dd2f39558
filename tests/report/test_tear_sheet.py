"""The tear sheet of a real small run: one file that parses and asks nobody for anything."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from daemon.report.charts import POINTS_MAX, Line, line_chart
from daemon.report.figures import UNDEFINED
from daemon.report.honesty import judge
from daemon.report.judged import Judged, judge_run
from daemon.report.metrics import daily, measure
from daemon.report.run import Run
from daemon.report.run_record import BookRow, RunRecord
from daemon.report.run_sections import months
from daemon.report.tear_sheet import render, write_page
from daemon.report.tried_list import TriedList, TriedRow
from tests.engine.world import BAR_MS, MIDNIGHT_MS
from tests.report.made_runs import Replayed, replay
from tests.runtime.rig import WARM_BARS, panel_of

BARS = 48 * 5
VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})


def recorded(times_ms: Sequence[int], books: Sequence[BookRow]) -> RunRecord:
    record = RunRecord()
    for close_ms, book in zip(times_ms, books, strict=True):
        record.add(close_ms, book)
    return record


@pytest.fixture(scope="module")
def made() -> Replayed:
    """Replay five days in memory and record them as a backtest does."""
    return replay(
        panel_of(BARS),
        title="Small <run> & sons",
        run_seconds=1.5,
        memory_mb=99.0,
        fingerprint="0123456789abcdef-and-more",
        caveats=("funding missing for 3.0 % <script>alert(1)</script>",),
        settings={"paper": {"fee_bps": 5.0}, "seed": 7},
    )


@pytest.fixture(scope="module")
def books(made: Replayed) -> list[BookRow]:
    """Give what the run has recorded."""
    return made.books


@pytest.fixture(scope="module")
def run(made: Replayed) -> Judged:
    return judge_run(made.run, name="small")


@pytest.fixture(scope="module")
def text(run: Judged) -> str:
    return render([(run, None)])


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
    assert len(charts) == 2 * text.count("<div class=wide>") > 20
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


def test_the_figures_are_on_the_page(run: Judged, text: str) -> None:
    record, decisions, facts = run.run.record, run.run.decisions, run.run.facts
    metrics = run.metrics
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
        "2023-11-15T03:00:00Z to 2023-11-20T00:00:00Z",
        "0123456789abcdef",
        "fee_bps = 5.0",
    ):
        assert shown in text, shown
    assert "and-more" not in text
    assert metrics.fees > 0
    assert len(record) == BARS - WARM_BARS + 1  # with the opening


def test_words_from_outside_are_shown_and_never_obeyed(text: str) -> None:
    assert "<script>" not in text
    assert "Small &lt;run&gt; &amp; sons" in text
    assert "funding missing for 3.0 % <script>alert(1)</script>" in Page(text).texts


def test_a_page_is_written_into_a_new_folder(run: Judged, text: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "report.html"
    write_page(path, [(run, None)])
    assert path.read_text(encoding="utf-8") == text  # and the same page again


def with_record(run: Judged, record: RunRecord) -> Judged:
    """Show another record in the place of the run's own."""
    equity = daily(record.times_ms, record.column("equity"))
    other = Run(record, [], [], run.run.facts)
    honesty = judge(equity[1:] / equity[:-1] - 1.0, trials=None)
    return replace(run, run=other, metrics=measure(record), honesty=honesty, band=None)


@pytest.mark.parametrize("rows", [1, 2])
def test_the_shortest_runs_have_a_page_that_says_what_it_cannot_know(
    run: Judged, books: list[BookRow], rows: int
) -> None:
    record = recorded(run.run.record.times_ms[:rows], books[:rows])
    page = Page(render([(with_record(run, record), None)]))
    assert page.open == []
    assert not [text for text in page.texts if re.search(r"\bnan\b", text)]
    why = [value for tag, name, value in page.attributes if (tag, name) == ("abbr", "title")]
    assert why.count("not defined: fewer than 2 daily returns") >= 2  # Sharpe and volatility
    assert why.count("not defined: fewer than 3 daily returns") == 5
    assert page.texts.count(UNDEFINED) == len(why)
    # and in print, below the table, where no pointer is needed
    shown = [text.strip() for text in page.texts]
    assert "not defined: fewer than 3 daily returns" in shown
    assert shown.count("not defined: no gain before costs") >= 1


def test_a_book_that_never_moved_has_no_sharpe_ratio_and_the_page_says_why(
    run: Judged, books: list[BookRow]
) -> None:
    still = [book._replace(equity=1e4, turnover=Decimal(0)) for book in books]
    record = recorded(run.run.record.times_ms, still)
    text = render([(with_record(run, record), None)])
    for why in ("no variance", "nothing was traded"):
        assert f'<abbr title="not defined: {why}">{UNDEFINED}</abbr>' in text
    assert not [t for t in Page(text).texts if re.search(r"\bnan\b", t)]


def test_a_bar_that_closes_at_midnight_belongs_to_the_month_before(
    run: Judged, books: list[BookRow]
) -> None:
    end_ms = MIDNIGHT_MS + 16 * 48 * BAR_MS  # 2023-12-01T00:00:00Z
    times = [end_ms - (4 - i) * BAR_MS for i in range(5)]
    text = months(recorded(times, books[:5]))
    cells = [t for t in Page(text).texts if t.endswith("%")]
    assert len(cells) == 2, "one month and its year"
    assert "2024" not in text


def test_the_parts_on_the_page_are_those_of_the_attribution(run: Judged, text: str) -> None:
    texts = [shown.strip() for shown in Page(text).texts]
    assert not isinstance(run.attribution, str)
    for amount in (*run.attribution.parts.values(), run.attribution.total):
        assert f"{amount:+,.2f}" in texts
    assert run.honesty.headline in texts


def test_a_book_whose_changes_are_not_all_explained_has_a_page_that_says_so(run: Judged) -> None:
    whole = run.run
    lost = replace(whole, executions=whole.executions[:-1])
    found = judge_run(lost)
    assert isinstance(found.attribution, str)
    text = render([(found, None)])
    assert Page(text).open == []
    assert "not attributed: " in text


def test_several_runs_stand_side_by_side_under_their_names(run: Judged) -> None:
    tried = TriedList((TriedRow("rule 1", "backtest", 1.5, 30, ("risk.x = <2>",)),))
    text = render([(replace(run, name="calm"), tried), (replace(run, name="<wild>"), tried)])
    page = Page(text)
    assert page.open == []
    assert "2 runs compared" in page.texts
    assert {"calm", "<wild>"} <= set(page.texts)
    assert text.count("<summary>Effective settings") == 2
    assert "Different configurations run on this data" in page.texts


def test_the_page_holds_nothing_that_differs_between_repeats(run: Judged, text: str) -> None:
    texts = " ".join(Page(text).texts)
    assert " 1.5 s" not in texts, "how long it took"
    assert "99 MB" not in texts
    assert render([(judge_run(run.run, name="small"), None)]) == text


def test_a_long_run_is_thinned_but_keeps_its_ends() -> None:
    n = 5 * POINTS_MAX
    times = [MIDNIGHT_MS + i * BAR_MS for i in range(n)]
    chart = line_chart(
        times, [Line("x", np.random.default_rng(1).normal(size=n), "#3b82c4")], unit="quote"
    )
    path = max(re.findall(r'd="([^"]*)"', chart), key=len)
    assert 1_000 < path.count("L") <= POINTS_MAX
