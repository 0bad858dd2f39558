"""Write domain messages as bytes and read them back equal: MessagePack with a type tag.

The journal, the worker's pipe and the paper venue's ledger all use this one form. Arrays travel as
an extension (dtype, shape, raw bytes), Decimals as their exact decimal text. `canonical` gives the
bytes that hash chains and comparisons are made of.
"""

from __future__ import annotations

import hashlib
import typing
from typing import Any, Final

import msgspec
import numpy as np

from daemon.domain import messages
from daemon.domain.bar import Window
from daemon.domain.failures import BadPayload, EquipoiseError

_ARRAY_CODE: Final = 1
_DTYPES: Final = ("<f8", "|u1", "|b1", "<i8", "<f4")
SCHEMA_VERSION: Final = 1


def _classes(union: Any) -> tuple[type, ...]:
    return typing.get_args(union)


MESSAGE_TYPES: Final[dict[str, type]] = {
    cls.__name__: cls
    for union in (messages.Event, messages.Command, messages.Recorded)
    for cls in _classes(union)
}


def _enc_hook(value: object) -> object:
    if isinstance(value, np.ndarray):
        contiguous = np.ascontiguousarray(value)
        _check_dtype(contiguous.dtype.str)
        head = msgspec.msgpack.encode((contiguous.dtype.str, value.shape))
        return msgspec.msgpack.Ext(_ARRAY_CODE, bytes([len(head)]) + head + contiguous.tobytes())
    if isinstance(value, np.generic):
        return value.item()
    raise NotImplementedError(f"cannot write a {type(value).__name__} into a message")


def _ext_hook(code: int, data: memoryview) -> object:
    if code != _ARRAY_CODE:
        raise ValueError(f"unknown extension {code}")
    if not data:
        raise ValueError("array without a head")
    size = data[0]
    dtype, shape = msgspec.msgpack.decode(data[1 : 1 + size], type=tuple[str, tuple[int, ...]])
    _check_dtype(dtype)
    if any(length < 0 for length in shape):
        raise ValueError(f"array of shape {shape}")
    return np.frombuffer(bytes(data[1 + size :]), dtype=dtype).reshape(shape)


def _check_dtype(dtype: str) -> None:
    if dtype not in _DTYPES:
        raise ValueError(f"array of dtype {dtype!r}; accepted: {', '.join(_DTYPES)}")


def _dec_hook(kind: type, value: object) -> object:
    if isinstance(value, np.ndarray):
        return value
    raise ValueError(f"want {kind}, got {type(value).__name__}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_enc_hook)
_decoders: dict[type, msgspec.msgpack.Decoder[Any]] = {}


def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    if kind not in _decoders:
        _decoders[kind] = msgspec.msgpack.Decoder(kind, dec_hook=_dec_hook, ext_hook=_ext_hook)
    return _decoders[kind]


def encode(value: object) -> bytes:
    """Write any domain value (dataclass, mapping, array, Decimal) as MessagePack."""
    return _encoder.encode(value)


def decode(raw: bytes, kind: Any) -> Any:
    """Read `raw` as a value of type `kind`; raise BadPayload when it is not one."""
    try:
        return _decoder(kind).decode(raw)
    except (msgspec.DecodeError, ValueError, EquipoiseError) as e:  # also what constructors refuse
        raise BadPayload(f"{len(raw)} bytes are no {kind}: {e}") from e


def encode_message(message: object) -> bytes:
    """Write an Event or Command with its type name."""
    return _encoder.encode((type(message).__name__, message))


def recorded(command: messages.Command) -> messages.Recorded:
    """Give the form in which a journal keeps `command`: windows shrink to their digests.

    To verify a replay, compare `encode_message(recorded(command))` with the recorded bytes.
    """
    if not isinstance(command, messages.Estimate):
        return command
    windows = tuple(_window_digest(window) for window in command.windows)
    return messages.RecordedEstimate(command.as_of_ms, windows)


def _window_digest(window: Window) -> messages.WindowDigest:
    bars_n, instruments_n, fields_n = window.values.shape
    digest = hashlib.sha256(window.values.tobytes()).hexdigest()
    shape = (bars_n, instruments_n, fields_n)
    return messages.WindowDigest(window.timeframe, window.newest_ms, shape, digest)


def decode_message(raw: bytes) -> messages.Event | messages.Command | messages.Recorded:
    """Read what `encode_message` wrote; raise BadPayload for an unknown type or broken bytes."""
    try:
        name, body = msgspec.msgpack.decode(raw, type=tuple[str, msgspec.Raw])
    except (msgspec.DecodeError, ValueError) as e:
        raise BadPayload(f"{len(raw)} bytes are no message: {e}") from e
    if name not in MESSAGE_TYPES:
        raise BadPayload(f"unknown message type {name!r}; known: {', '.join(MESSAGE_TYPES)}")
    message: messages.Event | messages.Command | messages.Recorded
    message = decode(bytes(body), MESSAGE_TYPES[name])
    return message
