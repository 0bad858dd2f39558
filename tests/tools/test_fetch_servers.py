"""Show that the broker of the tests is a real one, started by an explicit path."""

import subprocess
import sys
from pathlib import Path

from tools.fetch_servers import CHROMIUM, launcher_text, pick_programs, runs


def test_the_fetched_broker_starts(mosquitto_binary: Path) -> None:
    assert runs(mosquitto_binary)


def test_a_program_that_is_no_broker_is_refused(tmp_path: Path) -> None:
    assert not runs(Path(sys.executable))
    assert not runs(tmp_path / "absent")


def test_service_scripts_and_folders_with_the_same_name_are_no_programs() -> None:
    files = [Path("etc/init.d/mosquitto"), Path("usr/sbin/mosquitto"), Path("var/lib/mosquitto")]
    assert pick_programs(files) == {"mosquitto": Path("usr/sbin/mosquitto")}
    files = [Path("usr/bin/chromium"), Path("usr/lib/chromium/chromium"), Path("etc/chromium")]
    assert pick_programs(files, CHROMIUM) == {"chromium": Path("usr/bin/chromium")}


def test_the_fetched_browser_starts(chromium_binary: Path) -> None:
    assert runs(chromium_binary, CHROMIUM)
    assert not runs(Path(sys.executable), CHROMIUM)


def test_the_launcher_becomes_the_server_so_that_its_process_id_is_the_servers(
    tmp_path: Path,
) -> None:
    library = tmp_path / "a folder"
    launcher = tmp_path / "launch"
    launcher.write_text(launcher_text(Path(sys.executable), [library]), encoding="utf-8")
    launcher.chmod(0o755)
    code = "import os; print(os.getpid(), os.environ['LD_LIBRARY_PATH'])"
    with subprocess.Popen([launcher, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        printed = process.communicate(timeout=30)[0].strip()
    assert printed == f"{process.pid} {library}"


def test_the_packaged_redis_server_is_a_real_one(valkey_binary: Path) -> None:
    command = [str(valkey_binary), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert "server v=" in done.stdout
