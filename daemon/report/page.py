"""The parts that every HTML page of ours is made of: no script, no outside request, light and dark.

A page is one file. Charts come twice, for wide and for narrow screens, and the style shows one.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.report.figures import UNDEFINED

BLUE, RED, GREEN, AMBER, VIOLET = "#3b82c4", "#c8553d", "#3f9d6d", "#c08a2d", "#8465b8"
GREY, PINK = "#8a919b", "#b5578f"


@dataclass(frozen=True, slots=True)
class Undefined:
    """Stand for a figure that this run does not have; shown as a dash that says why."""

    why: str


@dataclass(frozen=True, slots=True)
class Shaded:
    """Stand for a table cell shaded by how good (> 0) or bad (< 0) it is, shade in [-1, 1]."""

    text: str
    shade: float


Cell = str | Undefined | Shaded


def escaped(text: object) -> str:
    """Give text that a browser shows as it is, whatever stands in it."""
    match text:
        case Undefined(why=why):
            return f'<abbr title="{html.escape(why)}">{UNDEFINED}</abbr>'
        case Shaded(text=inner):
            return html.escape(inner)
        case _:
            return html.escape(str(text))


def page(title: str, parts: Sequence[str]) -> str:
    """Give the whole document."""
    return f"{_HEAD.format(title=escaped(title))}<main>{''.join(parts)}</main></html>\n"


def heading(title: str, about: Sequence[str]) -> str:
    """Give the top of a page: its title and a line about it."""
    return f"<h1>{escaped(title)}</h1><p class=sub>{escaped(' · '.join(about))}</p>"


def caveats(grave: Sequence[str], others: Sequence[str]) -> str:
    """Give warnings that are read before any figure: a box for each grave one, one for the rest."""
    boxes = "".join(f'<p class="caveat grave">{escaped(text)}</p>' for text in grave)
    lines = "".join(f"<li>{escaped(text)}</li>" for text in others)
    return f"{boxes}<ul class=caveat>{lines}</ul>" if lines else boxes


def section(title: str, *parts: str, note: str = "") -> str:
    """Give a card with a title; `note` explains in small print what is shown."""
    small = f"<p class=note>{escaped(note)}</p>" if note else ""
    return f"<section><h2>{escaped(title)}</h2>{''.join(parts)}{small}</section>"


def tiles(figures: Sequence[tuple[str, Cell, str]]) -> str:
    """Give the large figures at the top: name, value, hint."""
    cells = (
        f"<div><b>{escaped(value)}</b><span>{escaped(name)}</span><i>{escaped(hint)}</i></div>"
        for name, value, hint in figures
    )
    return f"<section class=tiles>{''.join(cells)}</section>"


def paragraph(text: str) -> str:
    """Give text in ordinary print."""
    return f"<p class=plain>{escaped(text)}</p>"


def sentences(lines: Sequence[tuple[str, str]]) -> str:
    """Give a list of statements: what it is about, and what is to be said."""
    items = (f"<li><b>{escaped(name)}</b> {escaped(text)}</li>" for name, text in lines)
    return f"<ul class=said>{''.join(items)}</ul>"


def table(
    rows: Sequence[Sequence[Cell]], head: Sequence[str] = (), wordy: Sequence[int] = ()
) -> str:
    """Give a table whose first column names the row; head names the columns.

    wordy: the columns that hold sentences, which are set as such and may break. Why a figure is a
    dash stands below the table, where readers without a pointer and prints have it too.
    """
    whys = list(
        dict.fromkeys(cell.why for row in rows for cell in row if isinstance(cell, Undefined))
    )
    notes = "".join(
        f"<p class=note><sup>{number}</sup> {escaped(why)}</p>"
        for number, why in enumerate(whys, 1)
    )

    def shown(cell: Cell) -> str:
        mark = f"<sup>{whys.index(cell.why) + 1}</sup>" if isinstance(cell, Undefined) else ""
        return escaped(cell) + mark

    top = "".join(
        f"<th scope=col{' class=words' if i in wordy else ''}>{escaped(cell)}</th>"
        for i, cell in enumerate(head)
    )
    body = "".join(
        f"<tr><th scope=row>{escaped(row[0])}</th>"
        + "".join(
            f"<td class=words>{shown(cell)}</td>" if i in wordy else _cell(cell, shown(cell))
            for i, cell in enumerate(row[1:], start=1)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f"<div class=scroll><table>{f'<thead><tr>{top}</tr></thead>' if head else ''}"
        f"<tbody>{body}</tbody></table></div>{notes}"
    )


def folded(title: str, *parts: str) -> str:
    """Give something that opens when its title is pressed."""
    return f"<details><summary>{escaped(title)}</summary>{''.join(parts)}</details>"


def preformatted(text: str) -> str:
    """Give text with its line breaks."""
    return f"<pre>{escaped(text)}</pre>"


def _cell(cell: Cell, shown: str) -> str:
    if not isinstance(cell, Shaded):
        return f"<td>{shown}</td>"
    colour = GREEN if cell.shade > 0 else RED
    strength = min(abs(cell.shade), 1.0) * 55
    style = f"background:color-mix(in srgb,{colour} {strength:.0f}%,transparent)"
    return f'<td style="{style}">{shown}</td>'


_HEAD = """<!doctype html><html lang=en><meta charset=utf-8>
<meta name=viewport content="width=device-width,initial-scale=1">
<meta http-equiv=Content-Security-Policy content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title><style>
:root{{color-scheme:light dark;--page:#f7f7f5;--card:#fff;--ink:#20242a;--dim:#5f6670;
--rule:#e3e3df}}
@media(prefers-color-scheme:dark){{:root{{--page:#14171b;--card:#1c2026;--ink:#e4e7eb;--dim:#a0a8b3;
--rule:#2c323a}}}}
body{{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}}
main{{max-width:1000px;margin:0 auto;padding:24px 16px 48px}}
h1{{font-size:1.6rem;margin:.2em 0}}h2{{font-size:1rem;margin:0 0 8px;color:var(--dim)}}
.sub{{color:var(--dim);margin:0 0 16px}}
.note{{color:var(--dim);font-size:.82rem;margin:8px 0 0}}
.caveat{{border-left:3px solid #c08a2d;background:var(--card);padding:8px 12px;margin:8px 0}}
.grave{{border-color:#c8553d}}ul.caveat{{padding-left:28px;font-size:.9rem}}
section{{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px;
margin:14px 0}}
.scroll{{overflow-x:auto}}
.tiles{{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:14px}}
.tiles div{{display:flex;flex-direction:column}}.tiles b{{font-size:1.45rem}}
.tiles span{{font-weight:600}}.tiles i{{font-style:normal;color:var(--dim);font-size:.82rem}}
.plain{{margin:0}}.said{{margin:0;padding-left:1.1em}}.said li{{margin:.3em 0}}
svg{{width:100%;height:auto;display:block}}.narrow{{display:none}}
@media(max-width:640px){{.wide{{display:none}}.narrow{{display:block}}main{{padding:12px 8px 32px}}
section{{padding:12px 10px}}}}
table{{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}}
th{{text-align:left;font-weight:400;color:var(--dim)}}td{{text-align:right;white-space:nowrap}}
thead th{{text-align:right;font-size:.82rem}}thead th:first-child{{text-align:left}}
td.words,thead th.words{{text-align:left;white-space:normal;min-width:14em}}
th,td{{padding:5px 8px;border-top:1px solid var(--rule)}}
table>:first-child tr:first-child>*{{border-top:0}}
sup{{font-size:.7em;line-height:0;color:var(--dim)}}abbr{{color:var(--dim);text-decoration:none;cursor:help}}
pre{{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8rem}}
summary{{cursor:pointer}}main>details>summary{{font-size:1.15rem;font-weight:600;padding:8px 0;
border-top:1px solid var(--rule)}}
@media print{{details>*{{display:block}}section{{break-inside:avoid}}}}
</style>"""
