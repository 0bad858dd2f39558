"""Make `tests` a package, so that a stray `tests` among the libraries cannot shadow it."""
