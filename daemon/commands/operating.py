"""`equipoise pause`, `resume`, `reduce-only`, `flatten`, `kill`: speak to a daemon that runs.

They need no network: a request is a file in the daemon's state folder, and so is the answer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from daemon.commands.options import (
    AsJson,
    ConfigFiles,
    Overrides,
    StateFolder,
    console,
    print_json,
    read_settings,
    state_folder,
)
from daemon.commands.status import NOT_RUNNING_EXIT
from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import OperatorAction
from daemon.domain.units import iso
from daemon.settings import Settings
from daemon.wiring.control import AGES, STALE_S
from daemon.wiring.flattening import ClosingRules, flatten_account
from daemon.wiring.operating import Told, Wish, ask, running_in
from daemon.wiring.remote_asking import Via, answer_told, ask_at_a_distance

UNANSWERED_EXIT: Final = 5
REFUSED_EXIT: Final = 6
NOT_FLAT_EXIT: Final = 7

Wait = Annotated[
    float, typer.Option("--wait", help="Seconds to wait for the daemon's answer.", min=0)
]
Distance = Annotated[
    Via | None,
    typer.Option(
        "--via",
        help="Ask over redis or mqtt, signed with control.secret, instead of the state folder.",
        show_default=False,
    ),
]
RequestName = Annotated[
    str | None,
    typer.Option(
        "--request-id", help="Name the request: the same name again asks for the same, once."
    ),
]


def pause(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    wait: Wait = 10.0,
    request_id: RequestName = None,
    via: Distance = None,
) -> int:
    """Take no new risk: hold what is held, take back orders that would open.

    It lasts until `resume`, over restarts. Exit codes: 0 acknowledged, 3 nothing runs there,
    5 not acknowledged in time, 6 refused.
    """
    wish = Wish(OperatorAction.PAUSE, request_id or "", wait)
    return _speak(_Meant(config, overrides, state, via, as_json), wish)


def resume(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    wait: Wait = 10.0,
    request_id: RequestName = None,
    via: Distance = None,
    clear_latch: Annotated[
        bool, typer.Option("--clear-latch", help="Take the halt latch away first.")
    ] = False,
) -> int:
    """End pause, reduce-only, flattening and a halt; trade on once the account was compared.

    After a kill it needs --clear-latch. One that no daemon took within 120 s is refused later. Exit
    codes as `pause`.
    """
    wish = Wish(OperatorAction.RESUME, request_id or "", wait, clear_latch=clear_latch)
    return _speak(_Meant(config, overrides, state, via, as_json), wish)


def reduce_only(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    wait: Wait = 10.0,
    request_id: RequestName = None,
    via: Distance = None,
) -> int:
    """Decide on, but allow only what lessens positions, on both sides together.

    It lasts until `resume`, over restarts. Exit codes as `pause`.
    """
    wish = Wish(OperatorAction.REDUCE_ONLY, request_id or "", wait)
    return _speak(_Meant(config, overrides, state, via, as_json), wish)


def reload(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    wait: Wait = 10.0,
    request_id: RequestName = None,
    via: Distance = None,
) -> int:
    """Let the daemon read its settings again: risk, execution and live.foreign may change.

    Where anything else differs nothing is taken, and it is named. It reads the files and options
    that it was started with. Exit codes as `pause`.
    """
    wish = Wish(OperatorAction.RELOAD, request_id or "", wait)
    return _speak(_Meant(config, overrides, state, via, as_json), wish)


def flatten(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    wait: Wait = 10.0,
    request_id: RequestName = None,
    via: Distance = None,
    independent: Annotated[
        bool,
        typer.Option(
            "--independent",
            help="Ask no daemon: halt all of the account, then close it at the venue from here.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Needed with --independent: it sends real orders.")
    ] = False,
    within: Annotated[
        float, typer.Option("--within", help="Seconds --independent may take.", min=1)
    ] = 300.0,
    step: Annotated[
        float | None,
        typer.Option(
            "--step",
            help="Quote currency a side that --independent closes at once; default a tenth.",
            min=1,
            show_default=False,
        ),
    ] = None,
) -> int:
    """Close every position, both sides in step, and then hold nothing until `resume`.

    Acknowledged means begun: `status` shows when the book is flat. One that no daemon took within
    120 s is refused later; a halted book must be resumed first. Exit codes as `pause`; with
    --independent 0 is flat, 6 without --yes, 7 something is left.
    """
    if independent:
        chosen = [*(overrides or []), *([f"run.state_folder={state}"] if state else [])]
        settings = read_settings(config, chosen, base="paper.toml")
        bound = None if step is None else Decimal(str(step))
        return _flatten_alone(settings, ClosingRules(within, bound), yes=yes, as_json=as_json)
    wish = Wish(OperatorAction.FLATTEN, request_id or "", wait)
    return _speak(_Meant(config, overrides, state, via, as_json), wish)


def kill(
    config: ConfigFiles = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    state: StateFolder = None,
    wait: Wait = 10.0,
    request_id: RequestName = None,
    via: Distance = None,
    reason: Annotated[str, typer.Option("--reason", help="Kept in latch and journal.")] = "",
    force_after: Annotated[
        float | None,
        typer.Option(
            "--force-after",
            help="End the daemon's process when it has not answered after so many seconds.",
            min=0,
            show_default=False,
        ),
    ] = None,
) -> int:
    """Send nothing more, take back what rests, keep the positions; it works on a hung daemon too.

    The halt latch is written first: no daemon there sends an order until `resume --clear-latch`.
    Exit codes as `pause`; 0 also when the process was ended with --force-after.
    """
    wish = Wish(
        OperatorAction.KILL, request_id or "", wait, reason=reason, force_after_s=force_after
    )
    return _speak(_Meant(config, overrides, state, via, as_json), wish)


def _flatten_alone(settings: Settings, rules: ClosingRules, *, yes: bool, as_json: bool) -> int:
    out = console()

    def say(text: str) -> None:
        if not as_json:
            out.print(text, soft_wrap=True, markup=False)

    if not yes:
        say(
            f"this halts every daemon of {settings.live.account or 'the account'} and closes all "
            "that it holds with market orders; say --yes to do it"
        )
        return REFUSED_EXIT
    done = flatten_account(settings, rules, say)
    if as_json:
        print_json(asdict(done))
        return 0 if done.flat else NOT_FLAT_EXIT
    say(f"{len(done.cancelled)} orders cancelled, {len(done.orders)} closing orders sent")
    if done.flat:
        say(f"{done.account} is flat; `equipoise resume --clear-latch` lets it trade again")
        return 0
    rests = ", ".join(done.orders_left) or "no order"
    held = done.left or {}
    holds = ", ".join(f"{name} {held[name]:+f}" for name in sorted(held)) or "no position"
    unread = " (never read)" if done.left is None else ""
    say(f"NOT FLAT: {holds}{unread} and {rests} were left at the last look")
    return NOT_FLAT_EXIT


@dataclass(frozen=True, slots=True)
class _Meant:
    """Hold the options that say which daemon is meant, and how it is spoken to."""

    config: ConfigFiles
    overrides: Overrides
    state: Path | None
    via: Via | None
    as_json: bool

    def settings(self) -> Settings:
        """Read the settings of a daemon at a distance: of paper unless options say otherwise."""
        chosen = [f"run.state_folder={self.state}"] if self.state else []
        return read_settings(self.config, [*(self.overrides or []), *chosen], base="paper.toml")


def _folder(config: ConfigFiles, overrides: Overrides, state: Path | None) -> Path:
    """Choose whose state folder is meant: named, else where a daemon runs, else as for `replay`.

    Raises ConfigurationError where a rehearsal and a paper run both run: nothing is guessed then.
    """
    if state is not None:
        return state
    bases = ("paper.toml", "rehearsal.toml")
    meant = [read_settings(config, overrides, base=base).run.state_folder for base in bases]
    running = [folder for folder in dict.fromkeys(meant) if running_in(folder)]
    if len(running) > 1:
        named = " and ".join(map(str, running))
        raise ConfigurationError(f"daemons run in {named}: name the one you mean with --state")
    return running[0] if running else state_folder(config, overrides, state)


def _speak(meant: _Meant, wish: Wish) -> int:
    if meant.via is not None:
        return _speak_at_a_distance(meant, meant.via, wish)
    folder, as_json = _folder(meant.config, meant.overrides, meant.state), meant.as_json
    told = ask(folder, wish)
    code, lines = _outcome(folder, wish, told)
    if as_json:
        answer = None if told.answer is None else msgspec.to_builtins(told.answer)
        cleared = [str(path) for path in told.cleared]
        state = str(folder)
        print_json({**asdict(told), "answer": answer, "cleared": cleared, "state_folder": state})
        return code
    for line in lines:
        console().print(line, soft_wrap=True, markup=False)
    return code


def _speak_at_a_distance(meant: _Meant, via: Via, wish: Wish) -> int:
    """Ask over a server; what only a hand at the machine may do is refused here."""
    if wish.clear_latch or wish.force_after_s is not None:
        raise ConfigurationError(
            f"--via {via}: a halt latch is cleared, and a process ended, on its own machine only"
        )
    name, answer, why = ask_at_a_distance(meant.settings(), wish, via)
    verb = str(wish.action).replace("_", "-")
    if answer is None:
        code = UNANSWERED_EXIT
        line = (
            f"{verb} was not acknowledged over {via}: {why}; --request-id {name} asks for it again"
        )
    elif answer.get("obeyed") is True:
        code = 0
        line = f"{verb} acknowledged over {via}: {_standing(answer_told(name, answer))}"
    else:
        code, line = REFUSED_EXIT, f"{verb} refused: {answer.get('why')}"
        if "--clear-latch" in line:
            line += ", which works at the daemon's own machine only"
    if meant.as_json:
        print_json({"request_id": name, "via": via, "answer": answer, "why": why})
    else:
        console().print(line, soft_wrap=True, markup=False)
    return code


def _outcome(folder: Path, wish: Wish, told: Told) -> tuple[int, list[str]]:
    lines = [f"{path} was taken away" for path in told.cleared]
    answer, verb = told.answer, str(wish.action).replace("_", "-")
    if answer is not None and answer.obeyed:
        said = [*lines, f"{verb} acknowledged at {iso(answer.at_ms)}: {_standing(told)}"]
        return 0, [*said, answer.note] if answer.note else said
    if answer is not None:
        return REFUSED_EXIT, [*lines, f"{verb} refused: {answer.why}"]
    kills = wish.action is OperatorAction.KILL
    if kills:
        lines.append("the halt latch is set: no daemon there sends an order while it is")
    if told.ended_by:
        return 0, [*lines, f"the daemon was ended with {told.ended_by}; look at what rests there"]
    lines.append(_later(wish, told.request_id))
    if told.owner is None:
        return NOT_RUNNING_EXIT, [f"no daemon runs in {folder}", *lines]
    lines.insert(0, f"process {told.owner} did not acknowledge {verb} within {wish.wait_s:g} s")
    if kills:
        lines.append("`equipoise kill --force-after 5` ends its process")
    else:
        lines.append("does it hang? `equipoise kill` holds without it")
    return UNANSWERED_EXIT, lines


def _standing(told: Told) -> str:
    answer = told.answer
    if answer is None:
        return ""
    words = [answer.trading]
    words += ["paused"] if answer.paused else []
    words += ["flattening"] if answer.flattening else []
    words += ["reduce-only"] if answer.reduce_only and answer.trading != "reduce_only" else []
    why = f" ({answer.halted_why})" if answer.halted_why else ""
    return (
        f"{', '.join(words)}{why}; {answer.orders_open_n} orders open, "
        f"{answer.positions_n} positions held"
    )


def _later(wish: Wish, request_id: str) -> str:
    until = f" within {STALE_S:.0f} s, and refused later" if wish.action in AGES else ""
    return f"the request waits and is taken when a daemon listens{until}: --request-id {request_id}"
