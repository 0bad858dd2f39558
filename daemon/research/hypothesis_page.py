"""The page of results of the registered hypotheses, as Markdown for people and JSON for programs.

Nothing here depends on time, machine or number of processes: the same data and protocol give the
same bytes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from daemon.research.hypotheses import Card, Registered, Verdict

ORDER: Final = (
    Verdict.SUPPORTED,
    Verdict.REFUTED,
    Verdict.NOT_SHOWN,
    Verdict.NOT_TESTABLE,
    Verdict.PENDING,
)


@dataclass(frozen=True, slots=True)
class Campaign:
    """Hold the outcome of a campaign; fingerprints name the data of each run."""

    protocol: Registered
    is_registered: bool
    cards: tuple[Card, ...]
    fingerprints: Mapping[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """Count the verdicts, all of them, in a fixed order."""
        seen = Counter(card.judgement.verdict for card in self.cards)
        return {str(verdict): seen[verdict] for verdict in ORDER}


def source_of(campaign: Campaign) -> str:
    """Say which protocol was followed."""
    if campaign.is_registered:
        return "the registered protocol that comes with the program"
    return "ANOTHER protocol than the registered one, named with --protocol"


def campaign_json(campaign: Campaign) -> dict[str, object]:
    """Give the outcome as plain values; what is not known is null."""
    protocol = campaign.protocol.protocol
    return {
        "protocol": {
            "sha256": campaign.protocol.sha256,
            "is_registered": campaign.is_registered,
            "registered": protocol.registered.isoformat(),
            "seed": protocol.seed,
            "level": protocol.level,
        },
        "counts": campaign.counts,
        "fingerprints": dict(campaign.fingerprints),
        "hypotheses": [_card_json(card) for card in campaign.cards],
    }


def _card_json(card: Card) -> dict[str, object]:
    h, judgement = card.hypothesis, card.judgement
    return {
        "id": h.id,
        "claim": h.claim,
        "verdict": str(judgement.verdict),
        "reason": judgement.reason,
        "figures": {name: _known(value) for name, value in judgement.figures.items()},
        "support": h.support,
        "refutation": h.refutation,
        "comparisons": h.comparisons,
        "family": h.family,
    }


def _known(value: float | int | str) -> float | int | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def campaign_markdown(campaign: Campaign) -> str:
    """Write the page: the verdicts first, then a card for each hypothesis that was run."""
    protocol = campaign.protocol
    when = protocol.protocol.registered.isoformat()
    counts = [f"{count} {verdict}" for verdict, count in campaign.counts.items() if count]
    lines = [
        "# Hypotheses",
        "",
        f"Judged by {source_of(campaign)}, registered {when}, sha256 `{protocol.sha256}`.",
        "",
        f"{', '.join(counts)}.",
        "",
        "| id | claim | verdict | why |",
        "| --- | --- | --- | --- |",
    ]
    for card in campaign.cards:
        h, judgement = card.hypothesis, card.judgement
        cells = (h.id, h.claim, f"**{judgement.verdict}**", judgement.reason)
        lines.append("| " + " | ".join(_cell(text) for text in cells) + " |")
    for card in campaign.cards:
        if card.judgement.verdict is not Verdict.PENDING:
            lines += _card_lines(card)
    lines += [
        "",
        "*Not shown* means that the data does not decide: neither for the claim nor against it.",
        "",
    ]
    return "\n".join(lines)


def _card_lines(card: Card) -> list[str]:
    h, judgement = card.hypothesis, card.judgement
    lines = [
        "",
        f"## {h.id}: {judgement.verdict}",
        "",
        h.claim,
        "",
        f"- data: {h.data}; {h.period}",
        f"- arms: {h.arms}",
        f"- metric: {h.metric}",
        f"- test: {h.inference}",
        f"- comparisons: {h.comparisons}" + (f", Holm family {h.family}" if h.family else ""),
        f"- supported if {h.support}",
        f"- refuted if {h.refutation}",
        f"- found: {judgement.reason}",
    ]
    if judgement.figures:
        lines += ["", "| figure | value |", "| --- | ---: |"]
        lines += [
            f"| {name.replace('_', ' ')} | {_shown(value)} |"
            for name, value in judgement.figures.items()
        ]
    return lines


def _shown(value: float | int | str) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if math.isfinite(value) else "not known"
    return _cell(str(value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
