"""The daemon: rooms from the vocabulary (`domain`) up to the command line (`cli`).

Importing it settles one thing before NumPy is loaded: linear algebra runs on one thread. Our
matrices are small, a second thread would spin idly beside the estimator, and results must not
depend on how many cores a machine has. Who sets OPENBLAS_NUM_THREADS gets what was asked for.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
