"""Hold the house rules that no linter knows, as functions over source text.

Each rule takes a `Source` and yields findings; each finding says where, what and how to mend it.
`tests/test_tidy.py` applies the rules to the tree and shows for each rule a text that it refuses.
"""

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

OWN_PACKAGES = ("daemon", "strategies", "adapters")
CODE_ROOMS = (*OWN_PACKAGES, "tests", "tools", "benchmarks")
TEXT_ROOMS = (*CODE_ROOMS, "config", "deploy", "docs", "requirements", ".ci")
TEXT_SUFFIXES = {"", ".cfg", ".conf", ".css", ".html", ".in", ".j2", ".js", ".json", ".md"}
TEXT_SUFFIXES |= {".py", ".service", ".sh", ".toml", ".txt", ".yaml", ".yml"}
FUNCTION_CODE_LINES_MAX = 60
MODULE_LINES_MAX = 500
PORT_METHODS_MAX = 5
DEVELOPERS_EXTRAS = {"bench", "dev", "docs", "e2e"}
# where the name of a distribution and the name one imports differ
IMPORT_NAMES = {"paho_mqtt": "paho", "scikit_learn": "sklearn"}
# parts of pydantic's own interface that it ships, in fixed versions, as distributions of their own
# (and what exists for the type checker only)
PARTS_OF_OTHERS = {"annotated_types", "pydantic_core", "_typeshed"}
CLOCK_HOME = "adapters/clocks.py"
CLOCK_NAMES = {
    *(
        f"time.{name}{unit}"
        for name in ("time", "monotonic", "perf_counter")
        for unit in ("", "_ns")
    ),
    *(f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")),
    "datetime.date.today",
}
QUIET_ROOMS = {
    "daemon/domain/": {"msgspec", "numpy"},
    "daemon/engine/": {"msgspec", "numpy"},
    "daemon/statistics/": {"numpy", "scipy"},
}
ASYNC_NODES = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
# folders of one machine's user; fixed places of a container or a service are not among them
MACHINE_PATH = re.compile(
    r"(?<![\w.$}~-])(?:/(?:home|root|Users|work|tmp|mnt|farm)/|[A-Z]:\\Users)[\w.]"
)
BARE_IGNORE = re.compile(r"type:\s*ignore(?!\[)")


@dataclass(frozen=True, slots=True)
class Finding:
    """Name a breach of a rule: file relative to the checkout, line (1-based), and the remedy."""

    path: str
    line: int
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.remedy}"


@dataclass(frozen=True)
class Source:
    """Carry one file's text and, for Python, its syntax tree."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Parse the text; a syntax error is raised with the file's name."""
        return ast.parse(self.text, filename=self.path)

    @property
    def is_product(self) -> bool:
        """Tell whether the file belongs to one of the three packages that are installed."""
        return self.path.split("/")[0] in OWN_PACKAGES

    @property
    def is_test(self) -> bool:
        """Tell whether the file belongs to the tests."""
        return self.path.startswith("tests/")

    @cached_property
    def code_lines(self) -> frozenset[int]:
        """Return the numbers of all lines that hold code: no blank, comment or docstring lines."""
        silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT}
        silent |= {tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}
        lines: set[int] = set()
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type not in silent:
                lines.update(range(token.start[0], token.end[0] + 1))
        for node in ast.walk(self.tree):
            docstring = docstring_of(node)
            if docstring is not None:
                lines.difference_update(range(docstring.lineno, last_line(docstring) + 1))
        return frozenset(lines)


Rule = Callable[[Source], Iterator[Finding]]


def last_line(node: ast.stmt | ast.expr) -> int:
    """Return the last line of a node; parsed nodes always have one."""
    return node.end_lineno or node.lineno


def docstring_of(node: ast.AST) -> ast.Expr | None:
    """Return the statement that is the docstring of a module, class or function."""
    if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return first if isinstance(first.value.value, str) else None
    return None


def imported_names(tree: ast.Module) -> dict[str, str]:
    """Map each local name that an import binds to the full dotted name behind it."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                for alias in aliases:
                    local = alias.asname or alias.name.split(".")[0]
                    names[local] = alias.name if alias.asname else local
            case ast.ImportFrom(module=str(module), names=aliases):
                names.update({a.asname or a.name: f"{module}.{a.name}" for a in aliases})
    return names


def imported_roots(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield the top-level name and the line of each import, wherever it stands."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                yield from ((alias.name.split(".")[0], node.lineno) for alias in aliases)
            case ast.ImportFrom(module=str(module)):
                yield module.split(".")[0], node.lineno


def dotted(node: ast.AST) -> str | None:
    """Spell `a.b.c` of an attribute chain; None for anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            front = dotted(value)
            return None if front is None else f"{front}.{attr}"
    return None


def clocks_live_in_one_place(source: Source) -> Iterator[Finding]:
    """Refuse to read a clock of the machine anywhere but in the clocks' module."""
    if not source.is_product or source.path == CLOCK_HOME:
        return
    names = imported_names(source.tree)
    for node in ast.walk(source.tree):
        spelled = dotted(node) if isinstance(node, ast.Attribute | ast.Name) else None
        if spelled is None:
            continue
        head, _, tail = spelled.partition(".")
        full = names.get(head, head) + ("." + tail if tail else "")
        if full in CLOCK_NAMES:
            remedy = f"{full} is read in {CLOCK_HOME} only: take the instant as a value or a Clock"
            yield Finding(source.path, getattr(node, "lineno", 0), remedy)


def no_assert_outside_tests(source: Source) -> Iterator[Finding]:
    """Refuse `assert` where `python -O` would remove a check that money depends on."""
    if source.is_test:
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assert):
            yield Finding(
                source.path, node.lineno, "use require(condition, message): -O drops assert"
            )


def no_bare_type_ignore(source: Source) -> Iterator[Finding]:
    """Refuse to silence the type checker without naming what is silenced."""
    if "ignore" not in source.text:
        return  # reading the words of a file takes a while
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT and BARE_IGNORE.search(token.string):
            yield Finding(source.path, token.start[0], "name the code: type: ignore[code]")


def functions_are_short(source: Source) -> Iterator[Finding]:
    """Refuse functions whose code does not fit on one screen."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = range(node.lineno, last_line(node) + 1)
            if len(inside) <= FUNCTION_CODE_LINES_MAX:
                continue  # whatever of it is code: reading its words takes a while
            count = sum(1 for line in inside if line in source.code_lines)
            if count > FUNCTION_CODE_LINES_MAX:
                excess = f"{count} code lines, at most {FUNCTION_CODE_LINES_MAX}"
                remedy = f"{node.name} has {excess}: split it"
                yield Finding(source.path, node.lineno, remedy)


def modules_are_short(source: Source) -> Iterator[Finding]:
    """Refuse modules too long to be read in one go."""
    count = len(source.text.splitlines())
    if count > MODULE_LINES_MAX:
        remedy = f"{count} lines, at most {MODULE_LINES_MAX}: give each job a module of its own"
        yield Finding(source.path, count, remedy)


def quiet_rooms_stay_quiet(source: Source) -> Iterator[Finding]:
    """Refuse `async` and third-party imports where everything must be pure."""
    room = next((room for room in QUIET_ROOMS if source.path.startswith(room)), None)
    if room is None:
        return
    welcome = QUIET_ROOMS[room] | sys.stdlib_module_names | set(OWN_PACKAGES)
    for root, line in imported_roots(source.tree):
        if root not in welcome:
            allowed = ", ".join(sorted(QUIET_ROOMS[room]))
            remedy = f"{room} imports the standard library and {allowed} only, not {root}"
            yield Finding(source.path, line, remedy)
    for node in ast.walk(source.tree):
        if isinstance(node, ASYNC_NODES):
            yield Finding(
                source.path, node.lineno, f"{room} is synchronous: return a command instead"
            )


def no_empty_source(source: Source) -> Iterator[Finding]:
    """Refuse files without a job: nothing but a docstring or comments."""
    if source.path.endswith("__init__.py"):
        return
    if not [node for node in source.tree.body if node is not docstring_of(source.tree)]:
        yield Finding(source.path, 1, "a file appears when it has a job: remove it until then")


def ports_are_small(source: Source) -> Iterator[Finding]:
    """Refuse Protocols with so many methods that nobody implements them twice."""
    if source.path != "daemon/ports.py":
        return
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and any(_is_protocol(base) for base in node.bases):
            count = sum(isinstance(member, functions) for member in node.body)
            if count > PORT_METHODS_MAX:
                remedy = f"{node.name} has {count} methods, at most {PORT_METHODS_MAX}: two ports"
                yield Finding(source.path, node.lineno, remedy)


def _is_protocol(base: ast.expr) -> bool:
    name = base.value if isinstance(base, ast.Subscript) else base
    return (dotted(name) or "").split(".")[-1] == "Protocol"


def no_machine_paths(source: Source) -> Iterator[Finding]:
    """Refuse paths that exist on one person's machine only."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        found = MACHINE_PATH.search(line)
        if found is not None:
            remedy = f"{found.group()}... is a path of one machine: make it a setting or relative"
            yield Finding(source.path, number, remedy)


CODE_RULES: tuple[Rule, ...] = (
    clocks_live_in_one_place,
    no_assert_outside_tests,
    no_bare_type_ignore,
    functions_are_short,
    modules_are_short,
    quiet_rooms_stay_quiet,
    no_empty_source,
    ports_are_small,
)


def blanket_handlers(source: Source) -> Iterator[tuple[str, int]]:
    """Yield (`path::function`, line) of each handler that swallows every Exception.

    One that ends in a bare `raise` only tidies up and swallows nothing.
    """
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    enclosing: dict[ast.AST, str] = {}
    for node in ast.walk(source.tree):
        if isinstance(node, functions):
            # walked from the outside in, so that the innermost function's name stays
            enclosing.update(dict.fromkeys(ast.walk(node), node.name))
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler) or _raises_again(node):
            continue
        if _catches_all(node.type):
            yield f"{source.path}::{enclosing.get(node, '<module>')}", node.lineno


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def _catches_all(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    members = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(dotted(member) in ("Exception", "BaseException") for member in members)


def blanket_handlers_are_listed(
    sources: Iterable[Source], allowed: Iterable[str]
) -> Iterator[Finding]:
    """Refuse blanket handlers outside the list, and entries of the list that are not needed."""
    unused = set(allowed)
    listed = frozenset(unused)
    for source in sources:
        if source.is_test:
            continue
        for place, line in blanket_handlers(source):
            unused.discard(place)
            if place not in listed:
                remedy = "catch what you can handle: all only at the process's top or in a sink"
                yield Finding(source.path, line, remedy)
    for place in sorted(unused):
        remedy = f"{place} catches no blanket Exception any more: take it off the list"
        yield Finding(place.split("::")[0], 1, remedy)


def no_packages_in_data_rooms(paths: Iterable[str]) -> Iterator[Finding]:
    """Refuse Python in the folders that hold data: `config` and `deploy` are also package names."""
    for path in paths:
        if path.split("/")[0] in ("config", "deploy") and path.endswith(".py"):
            yield Finding(path, 1, "config/ and deploy/ hold data only: move the code to a package")


def packages_are_complete(paths: Iterable[str]) -> Iterator[Finding]:
    """Refuse a folder of our packages without `__init__.py`: the import contracts pass it by."""
    modules = {path for path in paths if path.endswith(".py")}
    folders = {path.rpartition("/")[0] for path in modules if path.split("/")[0] in OWN_PACKAGES}
    for folder in sorted(folders):
        if f"{folder}/__init__.py" not in modules:
            yield Finding(folder, 1, "add __init__.py: without it the import contracts see nothing")


def changelog_has_unreleased(source: Source) -> Iterator[Finding]:
    """Refuse a change log without an Unreleased section that says something."""
    section = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", source.text, re.MULTILINE | re.DOTALL)
    if section is None:
        yield Finding(source.path, 1, "add a section '## Unreleased'")
    elif not re.search(r"^- \S", section.group(1), re.MULTILINE):
        yield Finding(source.path, 1, "say under Unreleased what changed for a user, as a list")


def dependencies_have_reasons(source: Source) -> Iterator[Finding]:
    """Refuse a dependency in pyproject.toml without its reason beside it."""
    project = tomllib.loads(source.text)["project"]
    wanted = set(project.get("dependencies", []))
    for extra in project.get("optional-dependencies", {}).values():
        wanted.update(extra)
    for number, line in enumerate(source.text.splitlines(), start=1):
        found = re.match(r'\s*"([^"]+)",?(.*)', line)
        if found is None or found.group(1) not in wanted:
            continue
        wanted.discard(found.group(1))
        if not re.search(r"#\s*\w", found.group(2)):
            remedy = f"say beside {found.group(1)} why we need it, as a comment"
            yield Finding(source.path, number, remedy)
    for requirement in sorted(wanted):
        yield Finding(source.path, 1, f"give {requirement} a line and a reason of its own")


def imports_are_declared(sources: Iterable[Source], pyproject: str) -> Iterator[Finding]:
    """Refuse product imports of what neither the core nor an extra for users declares.

    What only the developers' extra installs is absent on a user's machine.
    """
    project = tomllib.loads(pyproject)["project"]
    lines = list(project.get("dependencies", []))
    for extra, members in project.get("optional-dependencies", {}).items():
        lines += [] if extra in DEVELOPERS_EXTRAS else members
    declared = {re.split(r"[<>=!~;\[ ]", line)[0].lower().replace("-", "_") for line in lines}
    welcome = {IMPORT_NAMES.get(name, name) for name in declared} | {"torch"}
    welcome |= sys.stdlib_module_names | set(OWN_PACKAGES) | PARTS_OF_OTHERS
    for source in sources:
        if not source.is_product:
            continue
        for root, line in imported_roots(source.tree):
            if root not in welcome:
                yield Finding(source.path, line, f"declare {root} in pyproject.toml, with a reason")


def constraints_name_no_host(source: Source) -> Iterator[Finding]:
    """Refuse addresses and folders in a lock: it must work with any index."""
    for number, line in enumerate(source.text.splitlines(), start=1):
        if re.search(r"://|^-|\s@\s", line):
            yield Finding(
                source.path, number, "a lock holds names and versions only: run `make lock`"
            )


def _is_litter(file: Path) -> bool:
    """Tell what tools leave behind and git ignores."""
    return "__pycache__" in file.parts or file.name.startswith(".coverage")


def read_sources(root: Path, rooms: Iterable[str], suffixes: set[str]) -> list[Source]:
    """Read all files below the rooms, and those of the checkout's top when `rooms` holds '.'."""
    files: list[Path] = []
    for room in rooms:
        found = root.iterdir() if room == "." else (root / room).rglob("*")
        files += [f for f in found if f.is_file() and not _is_litter(f)]
    chosen = sorted(file for file in files if file.suffix in suffixes)
    return [Source(f.relative_to(root).as_posix(), f.read_text(encoding="utf-8")) for f in chosen]
