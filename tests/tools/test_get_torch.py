"""Show the order in which torch is looked for, and that no GPU build comes in silently."""

import pytest

from tools.get_torch import VERSION, attempts, is_wanted, pip_find_links


def test_the_wheel_folders_of_pip_are_read_from_environment_and_file_alike() -> None:
    listing = (
        ":env:.find-links='wheels'\n"
        "global.extra-index-url='first second'\n"
        "global.find-links='wheels more'\n"
        "install.find-links='\\nthird\\nfourth'\n"
    )
    assert pip_find_links(listing) == ("wheels", "more", "third", "fourth")
    assert pip_find_links("global.timeout='60'\n") == ()


def test_on_linux_the_wheel_folder_comes_before_the_source_that_uv_knows() -> None:
    tries = [arguments for _, arguments in attempts("cpu", ("wheels",), "linux")]
    assert tries == [
        ["--find-links", "wheels", f"torch=={VERSION}+cpu"],
        ["--torch-backend=cpu", f"torch=={VERSION}"],
    ]


def test_without_a_wheel_folder_only_uv_is_asked() -> None:
    tries = [arguments for _, arguments in attempts("cpu", (), "linux")]
    assert tries == [["--torch-backend=cpu", f"torch=={VERSION}"]]


def test_another_back_end_never_takes_the_cpu_wheel() -> None:
    tries = [arguments for _, arguments in attempts("auto", ("wheels",), "linux")]
    assert tries == [["--torch-backend=auto", f"torch=={VERSION}"]]


def test_no_attempt_on_linux_takes_the_default_build() -> None:
    for folders in ((), ("wheels",)):
        for _, arguments in attempts("cpu", folders, "linux"):
            assert arguments != [f"torch=={VERSION}"]


def test_on_macos_the_ordinary_wheel_is_the_cpu_build() -> None:
    assert [a for _, a in attempts("cpu", ("wheels",), "darwin")] == [[f"torch=={VERSION}"]]


@pytest.mark.parametrize(
    ("version", "backend", "wanted"),
    [
        (f"{VERSION}+cpu", "cpu", True),
        (VERSION, "cpu", True),
        (f"{VERSION}+cu130", "cpu", False),
        (f"{VERSION}+cu130", "auto", True),
        (f"{VERSION}+cpu", "auto", False),
        ("2.6.0+cpu", "cpu", False),
        (None, "cpu", False),
    ],
)
def test_what_is_installed_counts_only_when_release_and_back_end_fit(
    version: str | None, backend: str, *, wanted: bool
) -> None:
    assert is_wanted(version, backend) is wanted
