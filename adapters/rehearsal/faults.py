"""Faults, switched on from outside or by a plan: what can go wrong, counted.

Several faults may be active at once, each for a counted number of answers (REST), dials, frames or
publications (stream), and of one instrument if it names one. What a fault does to an answer is in
`fault_answers.py`, to a frame in `fault_frames.py`, to accounts in `private_faults.py` and in the
dialect's own room. `/rehearsal/*` itself is never faulty.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from daemon.domain.failures import ConfigurationError

SECONDS_MAX: Final = 4 * 86_400.0  # bans last up to three days


class Fault(StrEnum):
    """Name what goes wrong."""

    NONE = "none"
    # REST: a counted number of answers
    NOT_JSON_200 = "not_json_200"  # a gateway page with status 200
    CUT_JSON_200 = "cut_json_200"  # half of the body, with status 200 and a fitting length
    EMPTY_LIST_200 = "empty_list_200"  # no klines although there are some
    LAGGING_200 = "lagging_200"  # klines from a copy that lacks the newest
    DIFFERING_ROW_200 = "differing_row_200"  # the newest closed kline otherwise, this once
    EMPTY_EXCHANGE_INFO = "empty_exchange_info"  # no contracts at all
    HTTP_451 = "http_451"  # refused for the caller's country
    HTTP_403 = "http_403"  # refused by the web application firewall
    HTTP_503 = "http_503"  # overloaded
    HTTP_429 = "http_429"  # too many requests, with Retry-After
    HTTP_418 = "http_418"  # banned for a while, with Retry-After
    MAINTENANCE = "maintenance"  # 503 with the venue's own JSON
    RESET_BODY = "reset_body"  # the connection breaks in the middle of an answer
    SLOW = "slow"  # the true answer, late
    HANG = "hang"  # no answer, ever
    CLOCK_JUMP = "clock_jump"  # the venue tells a time that is off
    # dials: a counted number of new sockets
    DIAL_REFUSED = "dial_refused"
    DIAL_HANG = "dial_hang"  # the connection is accepted and nothing answers
    SUBSCRIBE_REFUSED = "subscribe_refused"  # a counted number of requests
    # stream: a counted number of frames
    GARBAGE_FRAME = "garbage_frame"  # a frame that begins like JSON and is cut
    KLINE_NAN = "kline_nan"
    KLINE_NULL = "kline_null"
    KLINE_TYPES = "kline_types"
    KLINE_NEGATIVE_VOLUME = "kline_negative_volume"
    KLINE_HIGH_BELOW_LOW = "kline_high_below_low"
    KLINE_OFF_GRID = "kline_off_grid"
    KLINE_OTHER_SYMBOL = "kline_other_symbol"
    # stream: a counted number of publications, or of one instrument's part of them
    DROP_SOCKETS = "drop_sockets"  # every open socket is cut without a goodbye
    HALF_OPEN = "half_open"  # the open sockets live on, deaf and dumb, for good
    STALL = "stall"  # sockets stay open and silent
    DUPLICATE_FRAMES = "duplicate_frames"
    SHUFFLED_FRAMES = "shuffled_frames"
    LATE_FRAMES = "late_frames"  # they come after those of the next publication
    REVISED_FRAME = "revised_frame"  # a closed kline changes for good, and the stream says so
    REVISED_REST = "revised_rest"  # a closed kline changes for good, and nobody says so
    # private, answers: a counted number of orders placed, of a symbol if one is named
    ORDER_LOST_RESET = "order_lost_reset"  # accepted; the connection breaks instead of an answer
    ORDER_LOST_HANG = "order_lost_hang"  # accepted; no answer, ever
    ORDER_LOST_503 = "order_lost_503"  # accepted; the answer says that nobody knows
    ORDER_LOST_CUT = "order_lost_cut"  # accepted; the connection breaks in the middle of the answer
    ORDER_LOST_NOT_JSON = "order_lost_not_json"  # accepted; a gateway page with status 200
    ORDER_REFUSED_503 = "order_refused_503"  # never seen by the venue: overloaded
    ORDER_REFUSED_429 = "order_refused_429"  # never seen by the venue: too many requests
    ORDER_REFUSED_418 = "order_refused_418"  # never seen by the venue: banned for a while
    INSUFFICIENT_MARGIN = "insufficient_margin"  # refused whatever the margin is
    # private, answers: a counted number of signed requests
    CLOCK_SKEW = "clock_skew"  # refused as if the client's clock were off
    POSITIONS_BROKEN = "positions_broken"  # a page with status 200 instead of the positions
    ORDER_UNLISTED = "order_unlisted"  # an order that exists is not known to who asks about it
    FILLS_UNLISTED = "fills_unlisted"  # the list of fills lacks them all
    # private, user stream: a counted number of fills, or of frames
    FILL_DUPLICATED = "fill_duplicated"  # a fill is said twice
    FILLS_SHUFFLED = "fills_shuffled"  # what belongs to fills comes newest first
    FILL_BEFORE_ACK = "fill_before_ack"  # the stream speaks `seconds` before the order's answer
    USER_STREAM_STALLED = "user_stream_stalled"  # frames are swallowed, the socket stays open
    USER_FRAME_GARBAGE = "user_frame_garbage"  # a frame that begins like JSON and is cut
    # private, deeds of the venue or the owner: each at once, or as soon as there is whom to strike
    USER_STREAM_DROPPED = "user_stream_dropped"  # every socket of user streams is cut
    LISTEN_KEY_EXPIRED = "listen_key_expired"
    SYMBOL_HALTED = "symbol_halted"
    SYMBOL_RESUMED = "symbol_resumed"
    SYMBOL_DELISTED = "symbol_delisted"  # orders end, positions are settled at the last price
    LIQUIDATION = "liquidation"  # of what is held in the symbol, or in every one
    FORCED_REDUCTION = "forced_reduction"  # of half of what is held
    MANUAL_TRADE = "manual_trade"  # the owner trades by hand, with a client id of its own


PRIVATE_FAULTS: Final = frozenset(
    {
        Fault.ORDER_LOST_RESET,
        Fault.ORDER_LOST_HANG,
        Fault.ORDER_LOST_503,
        Fault.ORDER_LOST_CUT,
        Fault.ORDER_LOST_NOT_JSON,
        Fault.ORDER_REFUSED_503,
        Fault.ORDER_REFUSED_429,
        Fault.ORDER_REFUSED_418,
        Fault.INSUFFICIENT_MARGIN,
        Fault.CLOCK_SKEW,
        Fault.POSITIONS_BROKEN,
        Fault.ORDER_UNLISTED,
        Fault.FILLS_UNLISTED,
        Fault.FILL_DUPLICATED,
        Fault.FILLS_SHUFFLED,
        Fault.FILL_BEFORE_ACK,
        Fault.USER_STREAM_STALLED,
        Fault.USER_FRAME_GARBAGE,
        Fault.USER_STREAM_DROPPED,
        Fault.LISTEN_KEY_EXPIRED,
        Fault.SYMBOL_HALTED,
        Fault.SYMBOL_RESUMED,
        Fault.SYMBOL_DELISTED,
        Fault.LIQUIDATION,
        Fault.FORCED_REDUCTION,
        Fault.MANUAL_TRADE,
    }
)
"""What can go wrong with accounts only; random plans leave them out."""

GARBAGE: Final = '{"e":"kline","E":1,"s":"BTCUSDT","k":{"t":17'


@dataclass(slots=True)
class Strike:
    """Hold one fault: how often it strikes yet, whom (empty: everyone), and its seconds.

    seconds: how long an answer is late, the Retry-After of a refusal, how far the clock jumps.
    """

    fault: Fault
    left: int = 1
    symbol: str = ""
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.left < 1:
            raise ConfigurationError(f"count {self.left}: accepted is 1 or more")
        if not abs(self.seconds) <= SECONDS_MAX:
            accepted = f"-{SECONDS_MAX:g}..{SECONDS_MAX:g}"
            raise ConfigurationError(f"seconds {self.seconds}: accepted is {accepted}")


def fault_named(kind: str) -> Fault:
    """Read a fault's name; raise ConfigurationError naming what is accepted."""
    try:
        return Fault(kind)
    except ValueError:
        accepted = ", ".join(member.value for member in Fault)
        raise ConfigurationError(f"kind {kind!r}: accepted is {accepted}") from None


class FaultSwitch:
    """Hold the active faults, count them down, and remember how often each did strike."""

    def __init__(self) -> None:
        self._active: list[Strike] = []
        self.struck_n: Counter[Fault] = Counter()

    @property
    def active(self) -> list[Strike]:
        """List the faults that are still to strike, in the order in which they were set."""
        return list(self._active)

    @property
    def fault(self) -> Fault:
        """Give the fault that was set first of those still active, NONE if all is well."""
        return self._active[0].fault if self._active else Fault.NONE

    @property
    def left(self) -> int:
        """Give how often anything is still to strike."""
        return sum(strike.left for strike in self._active)

    def set(self, kind: str, count: int, *, symbol: str = "", seconds: float = 1.0) -> None:
        """Switch a fault on beside others; `none` ends all.

        The same fault of the same instrument is replaced. Raises ConfigurationError naming what is
        accepted.
        """
        self.put(Strike(fault_named(kind), count, symbol, seconds))

    def put(self, strike: Strike) -> None:
        """Switch a fault on beside others; `none` ends all."""
        if strike.fault is Fault.NONE:
            self._active.clear()
            return
        key = (strike.fault, strike.symbol)
        self._active = [s for s in self._active if (s.fault, s.symbol) != key]
        self._active.append(strike)

    def take(self, *kinds: Fault, symbol: str = "") -> Strike | None:
        """Give the strike of one of `kinds` that hits `symbol` now, and count it; None if none.

        A strike without a symbol hits everyone; a question without a symbol is hit by those only.
        """
        for strike in self._active:
            if strike.fault in kinds and strike.symbol in {"", symbol}:
                return self._count(strike)
        return None

    def take_all(self, *kinds: Fault) -> list[Strike]:
        """Give every strike of `kinds`, whomever it hits, each counted."""
        return [self._count(s) for s in list(self._active) if s.fault in kinds]

    def takes(self, *kinds: Fault, symbol: str = "") -> bool:
        """Tell whether one of `kinds` strikes now, and count it."""
        return self.take(*kinds, symbol=symbol) is not None

    def is_active(self, fault: Fault, symbol: str = "") -> bool:
        """Tell whether a fault would strike, without counting it."""
        return any(s.fault is fault and s.symbol in {"", symbol} for s in self._active)

    def _count(self, strike: Strike) -> Strike:
        strike.left -= 1
        if strike.left < 1:
            self._active.remove(strike)
        self.struck_n[strike.fault] += 1
        return strike
