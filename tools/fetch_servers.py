"""Get the real programs that the tests talk to: a mosquitto, and a Chromium for the status page.

The tests talk to a real broker and look at the page with a real browser; a missing one is a
failure, never a skip. Each program is always `.tools/bin/NAME` inside the checkout: a two-line
script that starts what EQUIPOISE_MOSQUITTO or EQUIPOISE_CHROMIUM names, or the Debian package if
that is installed, or the same package unpacked below `.tools/`. Unpacking needs no root and, unlike
an installation, starts no system service.

    python tools/fetch_servers.py [mosquitto] [chromium]
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).resolve().parent.parent / ".tools"


@dataclass(frozen=True)
class Program:
    """Say which package brings a program, and how a working one answers.

    beside: other programs of the package that are wanted. asked, answer: an option, and what the
    program says to it. unpacked: where the program itself lies in the package, if what lies among
    the programs is a script that knows where it was installed.
    """

    package: str
    beside: tuple[str, ...] = ()
    asked: str = "--version"
    answer: str = ""
    unpacked: str = ""

    @property
    def setting(self) -> str:
        """Name the environment variable that says where a program of one's own lies."""
        return f"EQUIPOISE_{self.package.upper()}"


MOSQUITTO = Program("mosquitto", ("mosquitto_passwd",), "-h", "mosquitto version")
CHROMIUM = Program("chromium", answer="Chrom", unpacked="usr/lib/chromium/chromium")
PROGRAMS = {one.package: one for one in (MOSQUITTO, CHROMIUM)}


class ServerMissing(Exception):
    """Carry the sentence for the person at the terminal."""


def launcher_text(program: Path, libraries: list[Path], root: Path | None = None) -> str:
    """Write the script that becomes `program`, so that its process id is the program's own.

    root: where packages were unpacked, for what looks for its fonts there.
    """
    setting = ""
    if libraries:
        joined = ":".join(str(folder) for folder in libraries)
        setting = f"LD_LIBRARY_PATH={shlex.quote(joined)} "
    if root is not None and (root / "etc" / "fonts" / "fonts.conf").exists():
        setting += f"FONTCONFIG_SYSROOT={shlex.quote(str(root))} "
    return f'#!/bin/sh\n{setting}exec {shlex.quote(str(program))} "$@"\n'


def runs(program: Path, wanted: Program = MOSQUITTO) -> bool:
    """Tell whether `program` is the wanted one and starts here: it names its version."""
    if not os.access(program, os.X_OK):
        return False
    command = [str(program), wanted.asked]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return wanted.answer in done.stdout


def installed_programs(wanted: Program = MOSQUITTO) -> dict[str, Path]:
    """Find the programs of the installed Debian package; empty when it is not installed."""
    if shutil.which("dpkg-query") is None:
        return {}
    command = ["dpkg-query", "--listfiles", wanted.package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    files = [Path(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []
    return pick_programs(files, wanted)


def pick_programs(files: Iterable[Path], wanted: Program = MOSQUITTO) -> dict[str, Path]:
    """Choose the wanted programs among a package's files, by name.

    The service script and several folders of a package bear the program's name as well, so only
    what lies in a folder for programs counts.
    """
    names = (wanted.package, *wanted.beside)
    in_place = [file for file in files if file.parent.name in ("bin", "sbin")]
    return {file.name: file for file in in_place if file.name in names}


def unpack(into: Path, wanted: Program = MOSQUITTO) -> tuple[dict[str, Path], list[Path]]:
    """Download the package and what it lacks here, unpack all of it below `into`.

    Return the programs and the folders of the unpacked libraries. Package lists and cache are our
    own, so that neither root nor the system's lock is needed.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ServerMissing(
            f"this system has no apt-get: install {wanted.package} and set "
            f"{wanted.setting}=/path/to/{wanted.package}"
        )
    lists, cache, root = into / "lists", into / "cache", into / "root"
    for folder in (lists / "partial", cache / "archives" / "partial", root):
        folder.mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
    options += ["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=", "-qq"]
    _run(["apt-get", *options, "update"])
    install = ["install", "--yes", "--download-only", "--no-install-recommends", wanted.package]
    _run(["apt-get", *options, *install])
    for archive in sorted((cache / "archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(archive), str(root)])
    shutil.rmtree(lists)
    shutil.rmtree(cache)
    programs = pick_programs(root.rglob("*"), wanted)
    if wanted.unpacked:
        programs[wanted.package] = root / wanted.unpacked
    libraries = sorted({file.parent for file in root.rglob("*.so*")})
    return programs, libraries


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = " ".join(command[:1] + command[-1:])
        raise ServerMissing(f"{words} failed:\n{done.stderr.strip()[-2000:]}")


def _find(wanted: Program) -> tuple[dict[str, Path], list[Path]]:
    named = os.environ.get(wanted.setting)
    if named:
        program = Path(named)
        if not runs(program, wanted):
            raise ServerMissing(
                f"{wanted.setting}={named} is not a {wanted.package} that starts here"
            )
        beside = {name: program.with_name(name) for name in wanted.beside}
        return {n: p for n, p in beside.items() if p.exists()} | {wanted.package: program}, []
    installed = installed_programs(wanted)
    if wanted.package in installed:
        return installed, []
    return unpack(TOOLS / wanted.package, wanted)


def put_in_place(wanted: Program) -> Path:
    """Leave the program's launcher in working order; raises ServerMissing where that cannot be."""
    launcher = TOOLS / "bin" / wanted.package
    if runs(launcher, wanted):
        return launcher
    programs, libraries = _find(wanted)
    launcher.parent.mkdir(parents=True, exist_ok=True)
    for name, program in programs.items():
        script = launcher.with_name(name)
        root = TOOLS / wanted.package / "root"
        script.write_text(launcher_text(program, libraries, root), encoding="utf-8")
        script.chmod(0o755)
    if not runs(launcher, wanted):
        raise ServerMissing(f"{launcher} was written but does not start")
    return launcher


def main() -> int:
    """Leave the named programs, or all, in working order and print their paths."""
    for name in sys.argv[1:] or PROGRAMS:
        if name not in PROGRAMS:
            print(f"{name!r} is none of {', '.join(PROGRAMS)}", file=sys.stderr)
            return 64
        try:
            print(put_in_place(PROGRAMS[name]))
        except ServerMissing as missing:
            print(f"no {name} for the tests: {missing}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
