"""A loopback end of the TLS connections that a client means for a venue's real hosts.

ccxt chooses some of its error classes by the URL, so a client that is redirected to plain HTTP is
not the client of production. Here it keeps every URL: its own proxy setting leads each connection
to a CONNECT proxy, which ends TLS with a certificate of an authority made for the test and hands
the bytes to a local server.

    client -> CONNECT fapi.binance.com:443 -> front -> TLS end (test certificate) -> local server

Closed on failure: the front dials loopback only, refuses every host that it was not made for, and
`only_loopback` makes any other connection of this process an error.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK: Final = "127.0.0.1"
HOSTS: Final = {
    "binanceusdm": ("fapi.binance.com", "fstream.binance.com", "api.binance.com"),
    "bybit": ("api.bybit.com", "stream.bybit.com"),
}
# Fixed, so that no clock is read; a test authority signs nothing that outlives its test.
_SINCE, _UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2049, 12, 31, tzinfo=UTC)
_PIECE: Final = 65_536


# ---- certificates --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Certificates:
    """Hold the files of an authority and of the certificate that it gave for some hosts."""

    authority: Path
    chain: Path


def make_certificates(folder: Path, hosts: tuple[str, ...]) -> Certificates:
    """Make an authority and a certificate for `hosts`; both keys are new."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Equipoise test authority")])
    ca_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    root = (
        _certificate(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signs_certificates(), critical=True)
        .add_extension(ca_id, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ca_id)
    leaf = (
        _certificate(x509.Name([]), ca_name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(names, critical=True)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    made = Certificates(folder / "authority.pem", folder / "chain.pem")
    made.authority.write_bytes(root.public_bytes(serialization.Encoding.PEM))
    made.chain.write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
    return made


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_SINCE)
        .not_valid_after(_UNTIL)
    )


def _signs_certificates() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )


# ---- the proxy -----------------------------------------------------------------------------------


@dataclass
class TlsFront:
    """Hold a running front: its port, whom it led through, whom it refused.

    up: False while it refuses every tunnel.
    """

    port: int
    authority: Path
    hosts: tuple[str, ...]
    up: bool = True
    led: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def options(self) -> dict[str, Any]:
        """Give the constructor options of ccxt; no URL is among them."""
        proxy = f"http://{LOOPBACK}:{self.port}"
        return {"httpsProxy": proxy, "wssProxy": proxy, "cafile": str(self.authority)}


@asynccontextmanager
async def tls_front(url: str, folder: Path, hosts: tuple[str, ...]) -> AsyncIterator[TlsFront]:
    """Lead TLS connections for `hosts` to the local server at `url`."""
    there = urlsplit(url)
    if there.hostname != LOOPBACK or there.port is None:
        raise ValueError(f"{url} is not a port of {LOOPBACK}")
    made = make_certificates(folder, hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.chain)
    lines = _Lines()
    inner = await asyncio.start_server(lines.to(there.port), LOOPBACK, 0, ssl=context)
    front = TlsFront(0, made.authority, hosts)
    outer = await asyncio.start_server(_tunnels(front, lines, _port_of(inner)), LOOPBACK, 0)
    front.port = _port_of(outer)
    try:
        yield front
    finally:
        outer.close()
        inner.close()
        await lines.close()


def _tunnels(front: TlsFront, lines: _Lines, port: int) -> _Meet:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            verb, target, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
            host, _, number = target.rpartition(":")
            if verb == "CONNECT" and number == "443" and host in front.hosts and front.up:
                front.led.append(host)
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                await lines.to(port)(reader, writer)
                return
            front.refused.append(target)
            writer.write(b"HTTP/1.1 502 Refused\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()

    return meet


class _Lines:
    """Carry bytes both ways between a connection and a loopback port, until either side ends."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def to(self, port: int) -> _Meet:
        async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection(LOOPBACK, port)
            pairs = ((reader, there_writer), (there_reader, writer))
            for source, sink in pairs:
                task = asyncio.create_task(_carry(source, sink))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

        return meet

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


_Meet = Any  # Callable[[StreamReader, StreamWriter], Awaitable[None]], as asyncio takes it


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(_PIECE):
            sink.write(data)
            await sink.drain()
        sink.close()
    except (ConnectionError, ssl.SSLError):
        sink.transport.abort()  # a reset stays a reset
    finally:
        sink.close()


def _port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


# ---- the guard -----------------------------------------------------------------------------------


@contextmanager
def only_loopback() -> Iterator[list[str]]:
    """Refuse every look-up and every connection of this process beyond loopback; name them."""
    beyond: list[str] = []
    look_up, connect, connect_ex = (
        socket.getaddrinfo,
        socket.socket.connect,
        socket.socket.connect_ex,
    )

    def check(host: object) -> None:
        if not _is_loopback(host):
            beyond.append(str(host))
            raise OSError(f"{host} lies beyond loopback")

    def looked_up(host: Any, *rest: Any, **more: Any) -> Any:
        check(host)
        return look_up(host, *rest, **more)

    def connected(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            check(address[0])
        connect(self, address)

    def connected_ex(self: socket.socket, address: Any) -> int:
        if self.family in {socket.AF_INET, socket.AF_INET6}:
            check(address[0])
        return connect_ex(self, address)

    with (
        patch.object(socket, "getaddrinfo", looked_up),
        patch.object(socket.socket, "connect", connected),
        patch.object(socket.socket, "connect_ex", connected_ex),
    ):
        yield beyond


def _is_loopback(host: object) -> bool:
    if host is None or host in {"localhost", b"localhost"}:
        return True
    with suppress(ValueError):
        return ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    return False
