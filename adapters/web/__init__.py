"""The status page: a process beside the daemon that serves it, and how it is fed.

`beside` is the daemon's side: it starts the process and brings it status; it loads no web server.
`hub`, `app`, `guards`, `commands` and `serving` are the page's side. Between them lies a socket
pair with one JSON object a line, see `line`.
"""
