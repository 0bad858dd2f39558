"""Check who may import whom, in the two shapes that the stock contracts of import-linter lack.

`rooms` is an allow-list: a room names all rooms of ours that it may import, everything else of ours
is refused. `strangers` holds the children of one package apart. Both look at direct imports only:
the module imported is bound by its own room's list, so nothing is gained by a detour. Neither minds
a room that does not exist yet, which a stock `forbidden` contract reports as an error.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

ARROW = "->"


@dataclass(frozen=True, slots=True)
class Illegal:
    """Name one import that a contract refuses, and where it stands."""

    importer: str
    imported: str
    lines: tuple[int, ...]


def is_inside(module: str, room: str) -> bool:
    """Tell whether `module` is `room` or lies below it."""
    return module == room or module.startswith(room + ".")


def room_of(module: str, rooms: Iterable[str]) -> str | None:
    """Find the innermost room that holds `module`; None when no room does."""
    holding = [room for room in rooms if is_inside(module, room)]
    return max(holding, key=len, default=None)


def parse_rooms(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Read lines `room -> room, room` into an allow-list; an empty right side allows nothing."""
    allowed: dict[str, tuple[str, ...]] = {}
    for line in lines:
        room, arrow, targets = line.partition(ARROW)
        if not arrow or not room.strip():
            raise ValueError(f"may_import line {line!r} must read 'room -> room, room'")
        allowed[room.strip()] = tuple(t.strip() for t in targets.split(",") if t.strip())
    return allowed


def find_trespasses(
    imports: Iterable[tuple[str, str]], allowed: dict[str, tuple[str, ...]]
) -> Iterator[tuple[str, str]]:
    """Yield each (importer, imported) that the importer's room does not allow.

    Imports inside one room, and importers that belong to no room, are not judged here.
    """
    for importer, imported in imports:
        room = room_of(importer, allowed)
        if room is None or is_inside(imported, room):
            continue
        if not any(is_inside(imported, target) for target in allowed[room]):
            yield importer, imported


def find_strangers_that_meet(
    imports: Iterable[tuple[str, str]], container: str
) -> Iterator[tuple[str, str]]:
    """Yield each (importer, imported) between two children of `container`."""
    depth = container.count(".") + 1
    for importer, imported in imports:
        both_below = all(m.startswith(container + ".") for m in (importer, imported))
        if both_below and importer.split(".")[depth] != imported.split(".")[depth]:
            yield importer, imported


def _imports_between_own_modules(
    graph: ImportGraph, own: Iterable[str]
) -> Iterator[tuple[str, str]]:
    roots = tuple(own)
    for importer in sorted(graph.modules):
        if room_of(importer, roots) is None:
            continue
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            if room_of(imported, roots) is not None:
                yield importer, imported


def _located(graph: ImportGraph, pairs: Iterable[tuple[str, str]]) -> list[Illegal]:
    illegal = []
    for importer, imported in pairs:
        details = graph.get_import_details(importer=importer, imported=imported)
        lines = tuple(sorted(detail["line_number"] for detail in details))
        illegal.append(Illegal(importer, imported, lines))
    return illegal


def _report(check: ContractCheck) -> None:
    illegal: list[Illegal] = check.metadata["illegal"]
    for one in illegal:
        where = ", ".join(f"l.{line}" for line in one.lines)
        output.print_error(f"{one.importer} must not import {one.imported} ({where})")
    output.new_line()


class RoomsContract(Contract):
    """Refuse every import between our modules that the importer's room does not list."""

    type_name = "rooms"
    may_import = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Judge all direct imports between our own packages."""
        allowed = parse_rooms(_strings(self.may_import))
        own = {room.split(".")[0] for room in allowed}
        pairs = find_trespasses(_imports_between_own_modules(graph, own), allowed)
        illegal = _located(graph, pairs)
        return ContractCheck(kept=not illegal, metadata={"illegal": illegal})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line an import."""
        _report(check)


class StrangersContract(Contract):
    """Refuse imports between the children of one package."""

    type_name = "strangers"
    container = fields.StringField()

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Judge all direct imports between the children of the container."""
        container = str(self.container)
        imports = _imports_between_own_modules(graph, [container])
        pairs = find_strangers_that_meet(imports, container)
        illegal = _located(graph, pairs)
        return ContractCheck(kept=not illegal, metadata={"illegal": illegal})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print one line an import."""
        _report(check)


def _strings(value: Any) -> list[str]:
    # import-linter replaces the class-level field by the parsed list on the instance
    return [str(one) for one in value or ()]
