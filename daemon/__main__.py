"""`python -m daemon` is `equipoise`."""

from daemon.cli import main

main()
