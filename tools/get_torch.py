"""Install the CPU build of torch without naming any host, in the order that is quickest here.

The default Linux wheel of the package index brings several gigabytes of CUDA libraries, so that one
is never taken silently. In order:

1. the wheel folders that pip is configured with on this machine (uv does not read pip's settings);
2. uv's own knowledge of where the builds for a back end are (`TORCH_BACKEND`, cpu unless set);
3. on macOS the ordinary wheel, which has no CUDA part;
4. otherwise stop and say how to go on.
"""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

VERSION = "2.13.0"
CONSTRAINTS = Path(__file__).resolve().parent.parent / "requirements" / "constraints.txt"


def installed_version() -> str | None:
    """Return the version of torch in this environment; None when there is none."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def is_wanted(version: str | None, backend: str) -> bool:
    """Tell whether `version` is the pinned release, built for `backend`.

    A build without a local label (macOS) counts as a CPU build.
    """
    if version is None:
        return False
    release, _, label = version.partition("+")
    if release != VERSION:
        return False
    return label in ("", "cpu") if backend == "cpu" else label not in ("", "cpu")


def pip_find_links(listing: str) -> tuple[str, ...]:
    """Read the wheel folders out of what `pip config list` prints, each once, in order."""
    values = re.findall(r"^\S*\.find-links='([^'\n]*)'$", listing, flags=re.MULTILINE)
    # pip escapes the line breaks of a value that stands on several lines
    folders = [folder for value in values for folder in value.replace("\\n", " ").split()]
    return tuple(dict.fromkeys(folders))


def attempts(backend: str, folders: tuple[str, ...], platform: str) -> list[tuple[str, list[str]]]:
    """List what to try, each with words for the person at the terminal and arguments for uv."""
    if platform == "darwin":
        return [("the ordinary macOS wheel", [f"torch=={VERSION}"])]
    tries: list[tuple[str, list[str]]] = []
    if folders and backend == "cpu":
        links = [part for folder in folders for part in ("--find-links", folder)]
        tries.append(("the wheel folder pip is configured with", [*links, f"torch=={VERSION}+cpu"]))
    by_uv = [f"--torch-backend={backend}", f"torch=={VERSION}"]
    tries.append((f"uv's source for the back end '{backend}'", by_uv))
    return tries


def _ask_pip() -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _install(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "uv", "pip", "install", "--compile-bytecode"]
    command += ["--python", sys.executable, "-c", str(CONSTRAINTS), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main() -> int:
    """Try in order; return 0 when the wanted build is there, 1 with an explanation when not."""
    backend = os.environ.get("TORCH_BACKEND", "cpu")
    if is_wanted(installed_version(), backend):
        print(f"torch {installed_version()} is installed")
        return 0
    for words, arguments in attempts(backend, pip_find_links(_ask_pip()), sys.platform):
        print(f"torch {VERSION} from {words} ...", flush=True)
        done = _install(arguments)
        if done.returncode == 0:
            print(f"torch {VERSION} installed")
            return 0
        print(f"  not there: {_last_line(done.stderr)}", file=sys.stderr)
    print(
        f"torch {VERSION} for the back end '{backend}' could not be installed. Either give pip a "
        "folder that holds the wheel (PIP_FIND_LINKS=FOLDER), or choose another back end "
        "(TORCH_BACKEND=auto takes the GPU build that fits this machine, several gigabytes).",
        file=sys.stderr,
    )
    return 1


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


if __name__ == "__main__":
    sys.exit(main())
