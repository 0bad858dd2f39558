"""Get a real mosquitto for the tests and print the path of the program that starts it.

The tests talk to a real broker; a missing one is a failure, never a skip. The program is always
`.tools/bin/mosquitto` inside the checkout: a two-line script that starts either what
EQUIPOISE_MOSQUITTO names, or the Debian package if that is installed, or the same package unpacked
below `.tools/`. Unpacking needs no root and, unlike an installation, starts no system service.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

PACKAGE = "mosquitto"
PROGRAMS = ("mosquitto", "mosquitto_passwd")
SETTING = "EQUIPOISE_MOSQUITTO"
TOOLS = Path(__file__).resolve().parent.parent / ".tools"


class ServerMissing(Exception):
    """Carry the sentence for the person at the terminal."""


def launcher_text(program: Path, libraries: list[Path]) -> str:
    """Write the script that becomes `program`, so that its process id is the server's own."""
    setting = ""
    if libraries:
        joined = ":".join(str(folder) for folder in libraries)
        setting = f"LD_LIBRARY_PATH={shlex.quote(joined)} "
    return f'#!/bin/sh\n{setting}exec {shlex.quote(str(program))} "$@"\n'


def runs(program: Path) -> bool:
    """Tell whether `program` is a mosquitto that starts here: its help names its version."""
    if not os.access(program, os.X_OK):
        return False
    command = [str(program), "-h"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return "mosquitto version" in done.stdout


def installed_programs() -> dict[str, Path]:
    """Find the programs of the installed Debian package; empty when it is not installed."""
    if shutil.which("dpkg-query") is None:
        return {}
    command = ["dpkg-query", "--listfiles", PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    files = [Path(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []
    return pick_programs(files)


def pick_programs(files: Iterable[Path]) -> dict[str, Path]:
    """Choose our programs among a package's files, by name.

    The service script and several folders of the package bear the server's name as well, so only
    what lies in a folder for programs counts.
    """
    in_place = [file for file in files if file.parent.name in ("bin", "sbin")]
    return {file.name: file for file in in_place if file.name in PROGRAMS}


def unpack(into: Path) -> tuple[dict[str, Path], list[Path]]:
    """Download the package and what it lacks here, unpack all of it below `into`.

    Return the programs and the folders of the unpacked libraries. Package lists and cache are our
    own, so that neither root nor the system's lock is needed.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise ServerMissing(
            f"this system has no apt-get: install mosquitto and set {SETTING}=/path/to/mosquitto"
        )
    lists, cache, root = into / "lists", into / "cache", into / "root"
    for folder in (lists / "partial", cache / "archives" / "partial", root):
        folder.mkdir(parents=True, exist_ok=True)
    options = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
    options += ["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=", "-qq"]
    _run(["apt-get", *options, "update"])
    install = ["install", "--yes", "--download-only", "--no-install-recommends", PACKAGE]
    _run(["apt-get", *options, *install])
    for archive in sorted((cache / "archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(archive), str(root)])
    shutil.rmtree(lists)
    shutil.rmtree(cache)
    programs = pick_programs(root.rglob("*"))
    libraries = sorted({file.parent for file in root.rglob("*.so*")})
    return programs, libraries


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = " ".join(command[:1] + command[-1:])
        raise ServerMissing(f"{words} failed:\n{done.stderr.strip()[-2000:]}")


def _find() -> tuple[dict[str, Path], list[Path]]:
    named = os.environ.get(SETTING)
    if named:
        program = Path(named)
        if not runs(program):
            raise ServerMissing(f"{SETTING}={named} is not a mosquitto that starts here")
        beside = {name: program.with_name(name) for name in PROGRAMS}
        return {n: p for n, p in beside.items() if p.exists()} | {PACKAGE: program}, []
    installed = installed_programs()
    if PACKAGE in installed:
        return installed, []
    return unpack(TOOLS / PACKAGE)


def main() -> int:
    """Leave `.tools/bin/mosquitto` in working order and print its path."""
    launcher = TOOLS / "bin" / PACKAGE
    if not runs(launcher):
        try:
            programs, libraries = _find()
        except ServerMissing as missing:
            print(f"no mosquitto for the tests: {missing}", file=sys.stderr)
            return 1
        launcher.parent.mkdir(parents=True, exist_ok=True)
        for name, program in programs.items():
            script = launcher.with_name(name)
            script.write_text(launcher_text(program, libraries), encoding="utf-8")
            script.chmod(0o755)
        if not runs(launcher):
            print(f"{launcher} was written but does not start", file=sys.stderr)
            return 1
    print(launcher)
    return 0


if __name__ == "__main__":
    sys.exit(main())
