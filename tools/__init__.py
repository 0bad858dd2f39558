"""Scripts of the set-up and of the checks; no part of the daemon imports them."""
