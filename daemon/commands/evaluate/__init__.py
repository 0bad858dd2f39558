"""`equipoise evaluate`: judge runs, data and the machine itself; one module a command."""
