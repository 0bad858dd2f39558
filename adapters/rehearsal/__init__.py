"""The rehearsal exchange: a local server that speaks a real venue's dialect to the real client.

It is a feature for users, not a test double: `equipoise rehearse` and the first `make paper` run
against it. Start it with `server.serve` inside a loop or `launch.launch` as a child process.
"""
