"""Settings of the status page: where it is served, and who may give commands there."""

from __future__ import annotations

from daemon.settings.fields import Section, setting


class WebSettings(Section):
    """Say where the status page is served, and by which token it takes commands."""

    enabled: bool = setting(True, "Serve the status page from a process beside the daemon.")
    host: str = setting(
        "127.0.0.1",
        "Address to listen at; another than the machine's own wants a reverse proxy with TLS.",
        min_length=1,
        max_length=253,
        pattern=r"^[A-Za-z0-9.:_-]+$",
    )
    port: int = setting(
        8787, "Port to listen at; 0 takes any free one.", unit="port", ge=0, le=65535
    )
    names: tuple[str, ...] = setting(
        (),
        "Names besides the address itself by which browsers may ask for the page: those of a "
        "reverse proxy, with their port unless it is the usual one.",
    )
    token_env: str = setting(
        "", "Name of the environment variable that holds the token for commands."
    )
    token_file: str = setting(
        "", "File that holds the token for commands, 16 characters or more; none: no commands."
    )
    private: bool = setting(
        False, "Ask for the token before anything of the book is shown, not for commands only."
    )
    clients_max: int = setting(
        64, "Open pages at once; one more is told so.", unit="pages", ge=1, le=1000
    )
