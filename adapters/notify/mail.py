"""Tell by e-mail: a small SMTP client on the event loop, RFC 5321 with STARTTLS and AUTH.

A conversation takes a bounded time, replies have a bounded length, and no login is sent before the
connection is encrypted and the server's certificate was verified. What a server said before TLS
began is forgotten.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from typing import Final, Literal

from adapters.notify.post import Undelivered
from daemon.status.notices import Message

REPLY_LINES_MAX: Final = 64
LINE_BYTES_MAX: Final = 2048
_NAME: Final = "equipoise"


@dataclass(frozen=True, slots=True)
class MailServer:
    """Say where mail is handed in; tls: from the start, after STARTTLS, or none."""

    host: str
    port: int
    tls: Literal["tls", "starttls", "none"]
    username: str = ""
    password: str | None = None
    context: ssl.SSLContext | None = None


class Mail:
    """Send each message to some addresses."""

    name = "email"

    def __init__(self, server: MailServer, sender: str, to: tuple[str, ...], *, run: str) -> None:
        self._server = server
        self._sender = sender
        self._to = to
        self._run = run
        self.server = f"smtp://{server.host}:{server.port}"

    async def send(self, message: Message) -> str:
        """Deliver to every address; raises Undelivered with the server's reply."""
        try:
            talk = await _Talk.opened(self._server)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError) as e:
            raise Undelivered(_why(e)) from None
        try:
            return await self._hand_in(talk, message)
        except (OSError, ssl.SSLError, asyncio.IncompleteReadError, ValueError) as e:
            raise Undelivered(_why(e)) from None
        finally:
            talk.close()

    async def _hand_in(self, talk: _Talk, message: Message) -> str:
        await talk.greet(self._server)
        await talk.ask(f"MAIL FROM:<{self._sender}>")
        refused = [why for address in self._to if (why := await talk.refuses(address)) is not None]
        if len(refused) == len(self._to):
            raise refused[0]
        await talk.ask("DATA", wanted=354)
        reply = await talk.ask_raw(_stuffed(self._written(message)) + b".\r\n")
        await talk.tell("QUIT")
        return f"{reply}; {len(refused)} addresses refused" if refused else reply

    def _written(self, message: Message) -> bytes:
        mail = EmailMessage(policy=SMTP)
        mail["Subject"] = message.title(self._run)[:200]
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._to)
        mail["Date"] = format_datetime(datetime.fromtimestamp(message.sent_ms / 1000, UTC))
        mail["Message-ID"] = make_msgid(domain=_NAME)
        mail["X-Equipoise-Severity"] = str(message.severity)
        mail.set_content(message.body(self._run))
        return mail.as_bytes()


class _Talk:
    """Hold a conversation with a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._beneath: asyncio.StreamWriter | None = None  # it would close the socket if forgotten
        self._can: dict[str, list[str]] = {}

    @classmethod
    async def opened(cls, server: MailServer) -> _Talk:
        """Connect, encrypted at once where that is wished."""
        context = server.context if server.tls == "tls" else None
        reader, writer = await asyncio.open_connection(
            server.host, server.port, ssl=context, limit=LINE_BYTES_MAX
        )
        return cls(reader, writer)

    async def greet(self, server: MailServer) -> None:
        """Say hello, encrypt and log in, as far as wished."""
        await self._reply(220)
        await self._hello()
        if server.tls == "starttls":
            if "STARTTLS" not in self._can:
                raise Undelivered("the server offers no STARTTLS", is_final=True)
            await self.ask("STARTTLS", wanted=220)
            await self._encrypt(server)
            await self._hello()
        if server.password is not None:
            await self._log_in(server.username, server.password)

    async def _hello(self) -> None:
        offers = await self.ask(f"EHLO {_NAME}")
        words = [line.upper().split() for line in offers.splitlines()[1:] if line.strip()]
        self._can = {first: rest for first, *rest in words}

    async def _log_in(self, username: str, password: str) -> None:
        """Log in by PLAIN, or by LOGIN where the server knows only that."""
        ways = self._can.get("AUTH", [])
        if "PLAIN" in ways or "LOGIN" not in ways:
            told = _base64(f"\0{username}\0{password}")
            await self.ask(f"AUTH PLAIN {told}", wanted=235, shown="AUTH PLAIN")
            return
        await self.ask("AUTH LOGIN", wanted=334)
        await self.ask(_base64(username), wanted=334, shown="AUTH LOGIN")
        await self.ask(_base64(password), wanted=235, shown="AUTH LOGIN")

    async def refuses(self, address: str) -> Undelivered | None:
        """Name a recipient; give why the server refuses it, None where it does not."""
        try:
            await self.ask(f"RCPT TO:<{address}>")
        except Undelivered as failure:
            return failure
        return None

    async def _encrypt(self, server: MailServer) -> None:
        """Go on encrypted, with a new reader: what came before in the clear is forgotten."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        context = server.context
        if context is None:
            raise Undelivered("no certificates to verify with", is_final=True)
        transport = await loop.start_tls(
            self._writer.transport, protocol, context, server_hostname=server.host
        )
        if transport is None:
            raise Undelivered("the connection ended while it was being encrypted")
        reader.set_transport(transport)
        self._reader, self._beneath = reader, self._writer
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)

    async def ask(self, command: str, *, wanted: int = 250, shown: str = "") -> str:
        """Send a command and give the reply; raises Undelivered for another code."""
        await self.tell(command)
        return await self._reply(wanted, shown or command)

    async def ask_raw(self, content: bytes) -> str:
        """Send the text of a mail and give the reply."""
        self._writer.write(content)
        await self._writer.drain()
        return await self._reply(250, "the text")

    async def tell(self, command: str) -> None:
        """Send a command; raises ValueError for one that would be two."""
        if "\r" in command or "\n" in command:
            raise ValueError("a line break in a command")
        self._writer.write(f"{command}\r\n".encode())
        await self._writer.drain()

    async def _reply(self, wanted: int, asked: str = "the connection") -> str:
        lines: list[str] = []
        for _ in range(REPLY_LINES_MAX):
            raw = await self._reader.readuntil(b"\n")
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            lines.append("".join(c if c.isprintable() else "?" for c in line[4:]))
            if line[3:4] != "-":
                break
        else:
            raise Undelivered("the server's reply has no end")
        code = line[:3]
        if code == str(wanted) or (wanted == 250 and code == "251"):
            return "\n".join(lines) if asked.startswith("EHLO") else f"{code} {lines[-1][:120]}"
        why = f"{asked.split(':')[0]}: {code} {lines[-1][:120]}"
        raise Undelivered(why, is_final=code.startswith("5"))

    def close(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _stuffed(text: bytes) -> bytes:
    """Double the dots that begin a line, so that none ends the text before its end."""
    lines = text.splitlines(keepends=True)
    stuffed = b"".join(b"." + line if line.startswith(b".") else line for line in lines)
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def _why(failure: Exception) -> str:
    if isinstance(failure, ssl.SSLCertVerificationError):
        return f"certificate: {failure.verify_message}"
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    return type(failure).__name__
