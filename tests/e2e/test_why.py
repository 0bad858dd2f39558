"""The chain of every order of a real run, and every number of it computed again."""

from __future__ import annotations

import re
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs

from adapters.journal import JournalReader
from daemon.commands.replay import DIVERGED_EXIT
from daemon.domain.decision import Decision
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.units import iso
from daemon.report.explanation import explain
from daemon.report.recheck import Outcome, compared
from daemon.wiring.explaining import order_instant, story_of
from daemon.wiring.instruments import read_instruments
from daemon.wiring.looking import Wanted, journal_rows
from daemon.wiring.rechecking import Rechecked, recheck
from tests.e2e.line import Finished, command, sets, settings_of

DAYS = 0.3
# A model that learns in a second, and a book that trades at every decision.
TRADING = (
    "training.kind=ridge",
    "training.days=44",
    'strategy.parameters={"friction_max": 100.0, "band": "fixed", "band_weight": 0.005}',
)
STEPS = [
    *("bars", "features", "model", "predictions", "combination", "strength", "rank", "weights"),
    *("band", "rounding", "risk", "order", "answers", "fills"),
]
CHECKED = {*STEPS} - {"model", "answers"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rehearse once for all tests here; gives the state folder, whose models lie beside it."""
    around = tmp_path_factory.mktemp("why")
    state = around / "state"
    chosen = sets([f"run.state_folder={state}", *TRADING])
    done = command("rehearse", "--quiet", "--days", str(DAYS), *chosen, cwd=around, seconds=240)
    assert done.code == 0, done.complaint
    return state


@pytest.fixture(autouse=True)
def _beside_its_models(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ran.parent)


def decisions(state: Path) -> list[Decision]:
    return list(JournalReader(state / "journal.sqlite").decisions())


def orders(state: Path) -> list[str]:
    return [order.order_id for one in decisions(state) for order in one.orders]


def again(state: Path, order_id: str) -> Rechecked:
    return recheck(state, story_of(state, order_id), lambda done, of: None)


def say(state: Path, *words: str) -> Finished:
    return command("why", *words, "--state", state, cwd=state.parent)


def test_every_order_of_a_run_resolves_its_whole_chain(ran: Path) -> None:
    found = orders(ran)
    assert len(found) > 100
    for name in found:
        story = story_of(ran, name)
        told = explain(story)
        assert [step.name for step in told.steps] == STEPS, name
        assert told.gaps == (), name
        (life,) = story.orders
        assert life.is_over, name
        assert len(story.windows) == len(story.answered) == 3, name
        assert all(step.lines for step in told.steps), name


def test_every_number_of_an_order_comes_out_again_equal(ran: Path) -> None:
    found = orders(ran)
    for name in (found[0], found[len(found) // 2], found[-1]):
        checked = again(ran, name)
        assert [one.words for one in checked.checks if one.outcome is not Outcome.EQUAL] == []
        assert {one.step for one in checked.checks} == CHECKED
        assert len(checked.checks) >= 28
        assert set(checked.features) == {"1h", "90m", "2h"}
        assert all(len(values) > 10 for values in checked.features.values())


def test_a_record_that_says_something_else_is_found_and_by_how_much(ran: Path) -> None:
    story = story_of(ran, orders(ran)[-1])
    decision = story.decision
    assert decision is not None
    assert decision.target is not None
    ideal = decision.target.ideal.copy()
    ideal[story.index] += 0.01
    mean = decision.predictions[0].mean + 1e-3
    changed = structs.replace(
        decision,
        target=structs.replace(decision.target, ideal=ideal),
        predictions=(
            structs.replace(decision.predictions[0], mean=mean),
            *decision.predictions[1:],
        ),
    )
    checked = recheck(ran, replace(story, decision=changed), lambda done, of: None)
    wrong = {one.name: one.difference for one in checked.checks if one.outcome is Outcome.DIFFERS}
    assert set(wrong) == {"ideal", "1h mean", "hash of the whole decision"}
    assert wrong["ideal"] == pytest.approx(-0.01)
    assert wrong["1h mean"] == pytest.approx(-1e-3)


def test_a_tampered_journal_is_refused_before_anything_is_told(ran: Path, tmp_path: Path) -> None:
    copy = tmp_path / "state"
    shutil.copytree(ran, copy, ignore=shutil.ignore_patterns("bars", "redis"))
    name = orders(copy)[0]
    entry = story_of(copy, name).orders[0].entry
    database = sqlite3.connect(copy / "journal.sqlite")
    body = database.execute("SELECT body FROM entries WHERE sequence = ?", (entry,)).fetchone()[0]
    other = database.execute("SELECT body FROM entries WHERE sequence = 1").fetchone()[0]
    assert body != other
    database.execute("UPDATE entries SET body = ? WHERE sequence = ?", (other, entry))
    database.commit()
    database.close()
    done = say(copy, name)
    assert done.code == 74
    assert f"entry {entry}" in done.complaint


def test_the_command_tells_it_in_words_and_as_values(ran: Path) -> None:
    name = orders(ran)[-1]
    done = say(ran, name, "--check")
    assert done.code == 0, done.complaint
    for number, step in enumerate(STEPS, start=1):
        assert re.search(rf"^ *{number} {step}$", done.out, flags=re.MULTILINE), step
    assert "the whole chain is in the journal" in done.out
    assert re.search(r"computed again: \d+ equal$", done.out, flags=re.MULTILINE)
    values = say(ran, name, "--json").values
    assert [one["step"] for one in values["steps"]] == STEPS
    assert values["gaps"] == []
    fills = values["steps"][-1]["values"]["fills"]
    assert sum(float(f["quantity"]) for f in fills) == pytest.approx(
        float(values["steps"][-3]["values"]["orders"][0]["quantity"])
    )


def test_a_decision_is_asked_for_by_instrument_and_instant(ran: Path) -> None:
    last = decisions(ran)[-1]
    by_order = story_of(ran, last.orders[-1].order_id)
    base = by_order.key.symbol.partition("/")[0]
    for text in (f"{base}@{iso(last.as_of_ms)}", f"{base.lower()}/usdt@latest"):
        story = story_of(ran, text)
        assert story.decision is not None
        assert story.decision.digest == last.digest
        mine = [o.order_id for o in last.orders if o.index == story.index]
        assert [life.order.order_id for life in story.orders] == mine
        assert explain(story).gaps == ()
    traded = {order.key.symbol for order in last.orders}
    for one in read_instruments(ran):
        if one.key.symbol not in traded:  # what was left alone has a chain as well
            assert explain(story_of(ran, f"{one.base}@latest")).gaps == ()
            assert "no order" in explain(story_of(ran, f"{one.base}@latest")).summary


def _targets(state: Path) -> list[dict[str, object]]:
    return list(journal_rows(settings_of(state, *TRADING), "targets", Wanted()).rows)


@pytest.mark.parametrize(
    ("asked", "failure"),
    [
        ("eq00000001-1-1", DataError),
        ("no-such-order", DataError),
        ("XYZ@latest", DataError),
        ("BTC@yesterday", ConfigurationError),
        ("BTC@2020-01-01T00:00", DataError),
    ],
)
def test_what_the_journal_does_not_know_is_said(
    ran: Path, asked: str, failure: type[Exception]
) -> None:
    with pytest.raises(failure):
        story_of(ran, asked)


def test_an_order_id_tells_the_instant_of_its_decision(ran: Path) -> None:
    for one in decisions(ran):
        for order in one.orders:
            assert order_instant(order.order_id) == one.as_of_ms
    assert order_instant("anything else") is None


def test_numbers_are_compared_exactly_unless_a_tolerance_is_stated() -> None:
    assert compared("weights", "x", 1.0, 1.0).outcome is Outcome.EQUAL
    assert compared("weights", "x", np.nan, np.nan).outcome is Outcome.EQUAL
    assert compared("weights", "x", 1.0, np.nextafter(1.0, 2.0)).outcome is Outcome.DIFFERS
    assert compared("predictions", "x", 1.0, 1.0 + 1e-9, 1e-6).outcome is Outcome.CLOSE
    assert compared("predictions", "x", 1.0, None).outcome is Outcome.DIFFERS
    assert "by +5.000e-01" in compared("weights", "x", 1.0, 1.5).words
    assert DIVERGED_EXIT == 4


# ---- tables of the same run ----------------------------------------------------------------------


def test_orders_and_fills_of_the_journal_are_all_there_and_can_be_narrowed(ran: Path) -> None:
    settings = settings_of(ran, *TRADING)
    everything = journal_rows(settings, "orders", Wanted()).rows
    assert [row["order_id"] for row in everything if row["state"] != "refused"] == orders(ran)
    fills = journal_rows(settings, "fills", Wanted()).rows
    book = JournalReader(ran / "journal.sqlite")
    assert [f["trade_id"] for f in fills] == [f.trade_id for f in book.fills()]
    newest = journal_rows(settings, "fills", Wanted(count=5)).rows
    assert newest == fills[-5:]
    bitcoin = journal_rows(settings, "fills", Wanted(("btcusdt",))).rows
    assert {f["symbol"] for f in bitcoin} == {"BTC/USDT:USDT"}
    last = decisions(ran)[-1]
    recent = journal_rows(settings, "orders", Wanted(since=iso(last.as_of_ms))).rows
    assert {row["order_id"] for row in recent} == {o.order_id for o in last.orders}
    hour = journal_rows(settings, "orders", Wanted(since="30m")).rows
    assert {row["order_id"] for row in hour} <= {row["order_id"] for row in everything}
    done = command("orders", "--state", ran, "-n", "3", "--json", cwd=ran.parent)
    assert done.values["source"] == "journal"
    assert [row["order_id"] for row in done.values["orders"]] == orders(ran)[-3:]


def test_positions_of_the_journal_are_what_the_fills_add_up_to(ran: Path) -> None:
    settings = settings_of(ran, *TRADING)
    held: dict[str, object] = {}
    for fill in JournalReader(ran / "journal.sqlite").fills():
        held[fill.key.symbol] = held.get(fill.key.symbol, 0) + fill.quantity  # type: ignore[operator]
    rows = journal_rows(settings, "positions", Wanted()).rows
    assert {row["symbol"]: row["quantity"] for row in rows} == {s: q for s, q in held.items() if q}
    last = decisions(ran)[-1]
    targets = {row["symbol"]: row for row in _targets(ran)}
    assert len(targets) == 12
    assert sorted(row["rank"] for row in targets.values()) == list(range(1, 13))  # type: ignore[type-var]
    assert last.target is not None
    assert sum(float(str(row["weight"])) for row in targets.values()) == pytest.approx(
        float(last.target.weights.sum())
    )


def test_what_the_shell_offers_is_what_the_book_and_the_registry_hold(ran: Path) -> None:
    def offered(*words: str) -> list[str]:
        line = " ".join(["equipoise", *words])
        extra = {
            "_EQUIPOISE_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
        }
        return command(cwd=ran.parent, extra=extra).out.split()

    newest = orders(ran)[-1]
    assert newest in offered("why", "--state", str(ran), newest[:6])
    assert "BTC@latest" in offered("why", "--state", str(ran), "B")
    assert offered("fills", "--state", str(ran), "--symbol", "ET") == ["ETH"]
    (model,) = {p.model_id for one in decisions(ran) for p in one.predictions}
    folder = "estimator.models_folder=models-rehearsal"
    assert offered("models", "--set", folder, "show", "") == [model]
    assert offered("orders", "--set", "risk.net") == ["risk.net_weight_max="]
    assert offered("why", "--state", str(ran / "nowhere"), "eq") == []
