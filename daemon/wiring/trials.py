"""Log every evaluation run as a trial, and gather what was tried on the same data.

`run_backtest`, `run_arms` and `train` log by themselves: nobody has to remember, and nothing turns
it off. What a trial is:

- Its *configuration* is every effective setting that can change the result, the model by its
  content, instruments with their trading rules, and the period; no path, name or address.
- Two trials saw the *same data* where the market showed both the same prices: each keeps a small
  sample of (symbol, midnight, close), the same for whoever sees the same closes, whatever the bar
  length, the folder, the choice of symbols or the period. Sharing one sample is enough.
- A *training* prints out-of-sample skill, so it is a trial, without returns. It counts on the
  prices it saw and beside every run of a model that was trained on them; together with a run of
  its own model it is one attempt.
- An arm of a stress campaign is logged, but is no further attempt: it changes the world, not the
  idea. Only the campaign itself says which those are; other costs set by hand are another trial.
- The same configuration on the same data with the same returns is a repeat. With other returns the
  program was changed in between, and that is one more thing that was tried.
"""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from adapters.clocks import TransportClock
from adapters.history.store import Panel, disk_symbol, fingerprint
from adapters.trial_ledger import Training, Trial, TrialLedger
from daemon.domain.bar import Field
from daemon.domain.instrument import Universe
from daemon.domain.units import DAY_MS, Timeframe, require
from daemon.report.metrics import daily, day_ends
from daemon.report.run_record import RunRecord
from daemon.report.trials import LedgerFacts, Trials, shown_file
from daemon.settings import Settings, effective
from daemon.wiring.core import strategy_of
from daemon.wiring.estimator import model_facts, table_in_use

if TYPE_CHECKING:
    from daemon.wiring.backtest import History

ANCHORS_PER_MONTH: Final = 8
ID_DIGITS: Final = 16
COVER_MIN: Final = 0.8  # of the judged days a trial must have, to be among the columns
SAME_RETURN: Final = 1e-9  # below this two returns differ by rounding only
_BACKTEST: Final = ("venue", "funding_venue", "source", "since", "until", "funding_missing")


# ---- writing -------------------------------------------------------------------------------------


def ledger_of(settings: Settings) -> TrialLedger:
    """Give the ledger that settings name, made and writable; raises before any work is done."""
    ledger = TrialLedger(Path(settings.evaluation.trials_file))
    ledger.prepare()
    return ledger


def trial_of(
    settings: Settings,
    history: History,
    record: RunRecord,
    command: str,
    *,
    is_stress: bool = False,
) -> Trial:
    """Give the line of a run; whoever ran it appends it to the ledger."""
    made = configuration_of(settings, history.universe)
    print_ = fingerprint_of(made)
    days, returns = daily_returns(record)
    return Trial(
        id=_digest([print_, history.fingerprint])[:ID_DIGITS],
        command=command,
        configuration_fingerprint=print_,
        data_fingerprint=history.fingerprint,
        configuration=made,
        symbols=history.symbols,
        anchors=anchors_of(history.panel, history.symbols),
        first_ms=record.times_ms[0],
        last_ms=record.times_ms[-1],
        days=days,
        returns=returns,
        sharpe=_sharpe(returns),
        code_version=version("equipoise"),
        logged_ms=TransportClock().wall_ms(),
        is_stress=is_stress,
    )


def trial_of_training(
    settings: Settings,
    panel: Panel,
    symbols: Sequence[str],
    source: Timeframe,
    made: Mapping[str, object],
    training: Training,
    command: str = "train",
) -> Trial:
    """Give the line of a training, which shows its skill and so is a trial without returns.

    made: what else was trained on what. It counts beside every run on the same prices, and beside
    every run of a model that was trained on them.
    """
    values = effective(settings)
    chosen = {name: v for name, v in values["training"].items() if name != "kind"}
    market = {name: values["market"][name] for name in ("source", "timeframes")}
    configuration = {"training": {**chosen, **made}, "market": market}
    print_, data = _digest(configuration), fingerprint(panel, symbols, source)
    return Trial(
        id=_digest([print_, data])[:ID_DIGITS],
        command=command,
        configuration_fingerprint=print_,
        data_fingerprint=data,
        configuration=configuration,
        symbols=symbols,
        anchors=anchors_of(panel, symbols),
        first_ms=int(panel.close_ms[0]),
        last_ms=int(panel.close_ms[-1]),
        days=[],
        returns=[],
        sharpe=None,
        code_version=version("equipoise"),
        logged_ms=TransportClock().wall_ms(),
        training=training,
    )


def configuration_of(settings: Settings, universe: Universe) -> dict[str, object]:
    """Give everything that can change a result, as plain values; equal ones give equal results."""
    values = effective(settings)
    chosen: dict[str, object] = {
        name: values[name] for name in ("market", "paper", "strategy", "risk")
    }
    chosen["estimator"] = _forecasts(settings)
    chosen["backtest"] = {name: values["backtest"][name] for name in _BACKTEST}
    rules = [asdict(instrument) for instrument in universe.instruments]
    chosen["instruments"] = {"n": len(rules), "rules": _digest(rules)}
    return chosen


def fingerprint_of(configuration: Mapping[str, object]) -> str:
    """Give the name by which a trial or a leak test knows its configuration."""
    return _digest(configuration)


def _forecasts(settings: Settings) -> Mapping[str, object]:
    if not strategy_of(settings).needs_estimates:
        return {"kind": "none", "model": None}
    kind, rule = settings.estimator.kind, settings.estimator.combination
    # the usual rule is not named, so that a trial keeps the id that it has had
    named = {} if rule == "auto" else {"combination": rule}
    model, table = model_facts(settings), table_in_use(settings)
    if table is not None:
        return {"kind": kind, "model": table.table_id} | named
    return {"kind": kind, "model": None if model is None else model.model_id} | named


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, default=str, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def daily_returns(record: RunRecord) -> tuple[list[int], list[float]]:
    """Give the UTC days since 1970 and the returns of a run; a ruined run ends with its ruin.

    The first one counts from the opening of the book.
    """
    days = day_ends(record.times_ms)[0][1:]
    equity = daily(record.times_ms, record.column("equity"))
    ruined = np.flatnonzero(~(equity > 0))
    end = int(ruined[0]) if len(ruined) else len(equity)
    after = equity[1 : end + 1]
    returns = after / equity[: len(after)] - 1.0
    require(np.isfinite(returns).all(), "a daily return of the run is not finite")
    return days[: len(returns)].tolist(), returns.tolist()


def _sharpe(returns: Sequence[float]) -> float | None:
    x = np.asarray(returns)
    if len(x) < 2 or x.max() == x.min():
        return None
    return float(x.mean() / x.std(ddof=1) * 365.0**0.5)


def anchors_of(panel: Panel, symbols: Sequence[str]) -> list[str]:
    """Sample the content: of each UTC month the closes at midnight whose hashes are the smallest.

    The choice depends on content only, so two panels with the same prices choose the same ones, and
    such of which one holds some of the other's choose some that are the same.
    """
    midnights = np.flatnonzero(panel.close_ms % DAY_MS == 0)
    months: dict[str, list[str]] = {}
    names = [disk_symbol(symbol) for symbol in symbols]
    for at in midnights.tolist():
        close_ms = int(panel.close_ms[at])
        month = str(np.datetime64(close_ms, "ms").astype("datetime64[M]"))
        closes = panel.values[at, :, Field.CLOSE].tolist()
        found = months.setdefault(month, [])
        for name, close in zip(names, closes, strict=True):
            if close == close:
                seen = f"{name} {close_ms} {close!r}".encode()
                found.append(hashlib.blake2b(seen, digest_size=6).hexdigest())
    chosen = [heapq.nsmallest(ANCHORS_PER_MONTH, found) for found in months.values()]
    return sorted({anchor for some in chosen for anchor in some})


# ---- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tried:
    """Hold one different trial, and how often the same came out again.

    is_stress: only ever run as an arm of a stress campaign.
    """

    name: str
    trial: Trial  # as it was first logged
    repeats: int
    last_logged_ms: int
    is_stress: bool

    @property
    def strategy(self) -> str:
        """Give the name of the strategy that was tried."""
        return strategy_name(self.trial)


def different_trials(trials: Iterable[Trial]) -> list[Tried]:
    """Join repeats, in the order of first logging; a name is strategy, id and, if need be, #2."""
    by_id: dict[str, list[Tried]] = {}
    order: list[tuple[str, int]] = []
    for trial in trials:
        variants = by_id.setdefault(trial.id, [])
        for at, known in enumerate(variants):
            if _same_returns(known.trial, trial):
                latest = max(known.last_logged_ms, trial.logged_ms)
                always = known.is_stress and trial.is_stress
                variants[at] = Tried(known.name, known.trial, known.repeats + 1, latest, always)
                break
        else:
            name = f"{strategy_name(trial)} {trial.id[:8]}"
            name += f" #{len(variants) + 1}" if variants else ""
            order.append((trial.id, len(variants)))
            variants.append(Tried(name, trial, 0, trial.logged_ms, trial.is_stress))
    return [by_id[trial_id][at] for trial_id, at in order]


def strategy_name(trial: Trial) -> str:
    """Give the name of the strategy that was tried, or what was trained."""
    if trial.training is not None:
        return f"training {trial.training.kind}"
    strategy = trial.configuration.get("strategy")
    return str(strategy.get("name", "")) if isinstance(strategy, Mapping) else ""


def _same_returns(left: Trial, right: Trial) -> bool:
    if list(left.days) != list(right.days) or left.training != right.training:
        return False
    return bool(np.allclose(left.returns, right.returns, rtol=0.0, atol=SAME_RETURN))


def same_data(tried: Sequence[Tried]) -> list[list[Tried]]:
    """Group trials that saw the same prices, directly or through others; in order of logging."""
    group_of = list(range(len(tried)))
    owner: dict[str, int] = {}
    for at, one in enumerate(tried):
        # its fingerprint counts as well: a period without a midnight has no anchors. So does the
        # model: whoever trades it has the benefit of all that was trained on the model's data
        for mark in (*one.trial.anchors, one.trial.data_fingerprint, *models_of(one.trial)):
            other = _root(group_of, owner.setdefault(mark, at))
            group_of[_root(group_of, at)] = other
    groups: dict[int, list[Tried]] = {}
    for at, one in enumerate(tried):
        groups.setdefault(_root(group_of, at), []).append(one)
    return list(groups.values())


def _root(group_of: list[int], at: int) -> int:
    while group_of[at] != at:
        group_of[at] = at = group_of[group_of[at]]
    return at


def models_of(trial: Trial) -> tuple[str, ...]:
    """Give the mark of the model that a trial traded or trained; nothing where there is none."""
    if trial.training is not None:
        return (f"model {trial.training.model}",)
    estimator = trial.configuration.get("estimator")
    model = estimator.get("model") if isinstance(estimator, Mapping) else None
    return () if model is None else (f"model {model}",)


def attempts(group: Sequence[Tried]) -> list[Tried]:
    """Give the trials of a group that count as attempts.

    Arms of a stress campaign do not: they change the world, not the idea. A training whose model
    was traded afterwards is one attempt together with that run.
    """
    real = [one for one in group if not one.is_stress]
    traded = {mark for one in real if one.trial.training is None for mark in models_of(one.trial)}
    return [
        one
        for one in real
        if one.trial.training is None or not traded.intersection(models_of(one.trial))
    ]


def judged(group: Sequence[Tried], data_fingerprint: str) -> Trials:
    """Give the returns of a group's trials over the days of those with this data fingerprint.

    A column is a trial that has COVER_MIN of these days at least and whose returns vary; rows are
    the days that all columns have. The others count in tried_n, which makes luck the larger. Arms
    of a stress campaign are neither: nobody picks the cheapest of many worlds, and that the cheap
    ones always win would make PBO look good.
    """
    group = attempts(group)
    own = [set(one.trial.days) for one in group if one.trial.data_fingerprint == data_fingerprint]
    wanted = set().union(*own)
    columns = [
        one
        for one in group
        if len(wanted.intersection(one.trial.days)) >= max(COVER_MIN * len(wanted), 1)
        and min(one.trial.returns) < max(one.trial.returns)
    ]
    common = wanted.intersection(*(one.trial.days for one in columns)) if columns else set()
    days = np.array(sorted(common), dtype=np.int64)
    returns = np.empty((len(days), len(columns)))
    for at, one in enumerate(columns):
        places = np.searchsorted(np.asarray(one.trial.days), days)
        returns[:, at] = np.asarray(one.trial.returns)[places]
    # what varied somewhere may stand still on the common days
    moving = np.ptp(returns, axis=0) > 0 if len(days) else np.zeros(len(columns), dtype=bool)
    names = tuple(one.name for one, moves in zip(columns, moving.tolist(), strict=True) if moves)
    trained_n = sum(one.trial.training is not None for one in group)
    return Trials(names, days, returns[:, moving], len(group), trained_n)


def read_trials(path: Path, *, data_fingerprint: str) -> Trials:
    """Read what was tried on the data of this fingerprint and on data that shares prices with it.

    Without any such trial: no columns, and tried_n 0. Raises CorruptFile for a damaged ledger.
    """
    return read_group(path, data_fingerprint=data_fingerprint)[0]


def read_group(path: Path, *, data_fingerprint: str) -> tuple[Trials, list[Tried]]:
    """Read as `read_trials`, and give beside it each trial of the group, stress arms as well."""
    tried = different_trials(TrialLedger(path).read().trials)
    ledger = LedgerFacts(shown_file(path), len(tried))
    for group in same_data(tried):
        if any(one.trial.data_fingerprint == data_fingerprint for one in group):
            return replace(judged(group, data_fingerprint), ledger=ledger), group
    return Trials((), np.zeros(0, dtype=np.int64), np.zeros((0, 0)), 0, ledger=ledger), []
