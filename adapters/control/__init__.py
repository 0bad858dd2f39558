"""How an operator reaches a daemon without a network: a spool of requests, and the halt latch.

`Spool` carries requests and answers through the state folder, `Latches` forbid orders for as long
as a file lies there, and `LatchedOrders` looks at them before every submit.
"""

from adapters.control.guard import LatchedOrders
from adapters.control.latch import LATCH_NAME, Halt, Latches, account_latch
from adapters.control.spool import Answer, Request, Spool, is_request_id

__all__ = [
    "LATCH_NAME",
    "Answer",
    "Halt",
    "LatchedOrders",
    "Latches",
    "Request",
    "Spool",
    "account_latch",
    "is_request_id",
]
