"""The coins of the generated market: names, starting prices, trading rules, risk.

The first twelve carry rules close to the real contracts'. Further ones get a price from their name
and rules from their price, so that a step is about a basis point and a lot about a dollar. Nothing
here depends on how many coins are used: the first twelve of two hundred are the same twelve.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Final

from adapters.rehearsal.market import Coin
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import HOUR_MS


@dataclass(frozen=True, slots=True)
class CoinTraits:
    """Hold what drives one generated coin.

    `volatility_hour` is the own (idiosyncratic) standard deviation of an hour's log return,
    `turnover_hour_usdt` the typical traded value of an hour.
    """

    coin: Coin
    price_start_usdt: float
    beta: float
    volatility_hour: float
    turnover_hour_usdt: float


# name: price, price step, quantity step, minimum notional, beta, own volatility %, turnover M USDT
_KNOWN: Final = {
    "BTC": (43_000.0, "0.1", "0.001", "100", 0.90, 0.14, 420.0),
    "ETH": (2_300.0, "0.01", "0.001", "20", 1.05, 0.24, 300.0),
    "SOL": (101.0, "0.01", "0.01", "5", 1.25, 0.48, 110.0),
    "BNB": (312.0, "0.01", "0.01", "5", 0.85, 0.28, 35.0),
    "XRP": (0.62, "0.0001", "0.1", "5", 0.95, 0.40, 70.0),
    "DOGE": (0.091, "0.00001", "1", "5", 1.20, 0.46, 60.0),
    "ADA": (0.59, "0.0001", "1", "5", 1.10, 0.40, 25.0),
    "AVAX": (38.5, "0.001", "1", "5", 1.25, 0.48, 22.0),
    "LINK": (15.1, "0.001", "0.01", "5", 1.15, 0.44, 24.0),
    "DOT": (8.3, "0.001", "0.1", "5", 1.10, 0.38, 14.0),
    "LTC": (72.4, "0.01", "0.001", "5", 0.90, 0.34, 18.0),
    "NEAR": (3.62, "0.001", "1", "5", 1.25, 0.52, 16.0),
}

_FURTHER: Final = """
ATOM TRX BCH ETC UNI APT ARB OP INJ SUI FIL ICP HBAR VET AAVE ALGO GRT SAND MANA AXS FTM RUNE
EGLD XLM EOS XTZ THETA FLOW CHZ CRV SNX COMP MKR DYDX ENJ KAVA ZEC DASH XMR NEO IOTA QTUM ZIL
ONT BAT ZRX 1INCH SUSHI YFI LRC KSM WAVES CELO ANKR STORJ OCEAN SKL IMX GALA APE GMT LDO STX FET
AGIX RNDR MASK ENS ROSE JASMY WOO MINA AR HOT IOTX ONE RVN BAL KNC BAND COTI CTSI DENT HIGH ICX
LINA LIT MTL OGN REEF SFP STMX TRB UNFI XEM YGG ZEN ALICE ARPA ATA AUDIO BEL BLZ C98 CELR CKB
CTK DAR DUSK FLM GTC HOOK ID JOE KLAY LPT MAGIC MAV MDT NKN NMR OXT PENDLE PEOPLE PERP PHB PYTH
QNT RAD RDNT RLC RSR SEI SPELL SSV STG SXP TIA TLM TOMO TRU T TWT UMA WLD XVG XVS ACH AGLD AMB
ARK ASTR BICO BIGTIME BLUR CFX COMBO CYBER EDU GAS GLM HFT HIFI IDEX JTO LEVER LOOM LQTY MEME
NTRN OMG ORBS ORDI PIXEL POWR RIF SLP STRAX USTC W XAI ZETA STRK ALT AXL BOME DYM ENA ETHFI
MANTA METIS MYRO ONDO PORTAL RONIN SAGA TAO TNSR TON WIF
"""

QUOTE: Final = "USDT"
NAMES: Final = tuple(f"{base}{QUOTE}" for base in dict.fromkeys([*_KNOWN, *_FURTHER.split()]))[:200]

_FOUR_HOURS_EVERY: Final = 6  # every sixth coin settles funding each 4 h, the others each 8 h


def traits_of(symbol: str, listed_ms: int, delisted_ms: int | None) -> CoinTraits:
    """Describe one coin of the generated market; raise ConfigurationError for an unknown name."""
    if symbol not in NAMES:
        raise ConfigurationError(
            f"symbol {symbol!r}: the generated market has {NAMES[0]}, {NAMES[1]} .. {NAMES[-1]}"
            f" ({len(NAMES)} names)"
        )
    base = symbol.removesuffix(QUOTE)
    price, price_step, quantity_step, notional, beta, volatility, turnover = (
        _KNOWN[base] if base in _KNOWN else _invented(base)
    )
    place = NAMES.index(symbol)
    hours = 4 if place % _FOUR_HOURS_EVERY == _FOUR_HOURS_EVERY - 1 else 8
    coin = Coin(
        symbol=symbol,
        base=base,
        price_step=price_step,
        quantity_step=quantity_step,
        notional_min_usdt=notional,
        price_decimals=decimals_of(price_step),
        quantity_decimals=decimals_of(quantity_step),
        listed_ms=listed_ms,
        delisted_ms=delisted_ms,
        funding_interval_ms=hours * HOUR_MS,
    )
    return CoinTraits(coin, price, beta, volatility / 100, turnover * 1e6)


def decimals_of(step: str) -> int:
    """Count the decimals of a step written as a decimal string: '0.01' has 2, '1' has 0."""
    return len(step.partition(".")[2])


def _invented(base: str) -> tuple[float, str, str, str, float, float, float]:
    """Derive price, rules and risk of a coin from its name alone."""
    digest = zlib.crc32(base.encode())
    first, second, third, fourth = (((digest >> shift) & 255) / 255 for shift in (0, 8, 16, 24))
    price = round(10 ** (-1.3 + 2.6 * first), 5)
    price_decimals = max(0, math.ceil(-math.log10(price * 3e-4)))
    quantity_decimals = max(0, math.floor(math.log10(price)))
    beta = 0.8 + 0.7 * second
    volatility = 0.38 + 0.5 * third
    turnover = 10 ** (-0.2 + 1.2 * fourth)
    return (
        price,
        step_of(price_decimals),
        step_of(quantity_decimals),
        "5",
        beta,
        volatility,
        turnover,
    )


def step_of(decimals: int) -> str:
    """Write the step of `decimals` decimals: 2 gives '0.01', 0 gives '1'."""
    return "1" if decimals == 0 else f"0.{'0' * (decimals - 1)}1"
