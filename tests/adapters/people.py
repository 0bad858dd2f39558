"""Where messages to people arrive in tests: real servers on loopback for HTTP and for mail."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.e2e.tls_proxy import Certificates

TOKEN = "12345:token-of_the-tests"
PASSWORD = "password-of-the-tests"


@dataclass
class HookServer:
    """Serve a webhook at /hook and a Telegram-shaped bot; `answers` are given first, in order.

    An answer is (status, JSON, headers); None never answers.
    """

    answers: list[tuple[int, dict[str, Any], dict[str, str]] | None] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    got: list[dict[str, Any]] = field(default_factory=list)
    asked_n: int = 0
    port: int = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _hook(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, {})

    async def _bot(self, request: web.Request) -> web.StreamResponse:
        if request.match_info["token"] != TOKEN:
            told = {"ok": False, "error_code": 401, "description": "Unauthorized"}
            return web.json_response(told, status=401)
        return await self._answer(request, {"ok": True, "result": {"message_id": 1}})

    async def _answer(self, request: web.Request, good: dict[str, Any]) -> web.StreamResponse:
        self.asked_n += 1
        body = await request.read()
        if self.answers:
            answer = self.answers.pop(0)
            if answer is None:
                await asyncio.Event().wait()
                raise AssertionError
            status, values, headers = answer
            if status != 200:
                return web.json_response(values, status=status, headers=headers)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.got.append(await request.json())
        return web.json_response(good)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[HookServer]:
        app = web.Application()
        app.router.add_post("/hook", self._hook)
        app.router.add_post("/bot{token}/sendMessage", self._bot)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


@dataclass
class MailPost:
    """Take mail by SMTP; certificates: offers STARTTLS; ways: how one may log in.

    before_tls: what it wrongly sends right behind the reply to STARTTLS.
    """

    certificates: Certificates | None = None
    ways: str = "PLAIN LOGIN"
    username: str = "equipoise"
    refuses: tuple[str, ...] = ()
    before_tls: bytes = b""
    stalls: bool = False
    needs_login: bool = True
    mails: list[tuple[str, list[str], bytes]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    port: int = 0

    def _context(self) -> ssl.SSLContext:
        assert self.certificates is not None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificates.chain)
        return context

    @asynccontextmanager
    async def running(self, *, tls: bool = False) -> AsyncIterator[MailPost]:
        context = self._context() if tls else None
        talks: set[asyncio.Task[None]] = set()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer, tls=tls))
            talks.add(task)
            task.add_done_callback(talks.discard)

        server = await asyncio.start_server(begin, "127.0.0.1", self.port, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for talk in talks:
                talk.cancel()
            await asyncio.gather(*talks, return_exceptions=True)
            await asyncio.sleep(0.01)  # an aborted transport closes with the next turns of the loop

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tls: bool
    ) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._talk(reader, writer, tls=tls)
        finally:
            writer.transport.abort()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tls: bool
    ) -> None:
        if self.stalls:
            await asyncio.Event().wait()
        sender, to, known = "", list[str](), not self.needs_login
        writer.write(b"220 tests ESMTP\r\n")
        while True:
            line = (await reader.readuntil(b"\r\n")).decode().rstrip("\r\n")
            self.commands.append(line)
            verb = line.split(" ")[0].upper()
            if verb == "EHLO":
                offers = ["tests", "SIZE 10240000"]
                offers += [] if tls or self.certificates is None else ["STARTTLS"]
                offers += [f"AUTH {self.ways}"] if tls else []
                rows = [f"250-{o}\r\n" for o in offers[:-1]] + [f"250 {offers[-1]}\r\n"]
                writer.write("".join(rows).encode())
            elif verb == "STARTTLS":
                writer.write(b"220 go ahead\r\n" + self.before_tls)
                await writer.start_tls(self._context())
                tls = True
            elif verb == "AUTH":
                known = await self._login(line, reader, writer)
                writer.write(b"235 welcome\r\n" if known else b"535 wrong password\r\n")
            elif verb == "MAIL":
                sender, to = line, []
                writer.write(b"250 ok\r\n" if known else b"530 log in first\r\n")
            elif verb == "RCPT":
                bad = any(one in line for one in self.refuses)
                to += [] if bad else [line]
                writer.write(b"550 no such person\r\n" if bad else b"250 ok\r\n")
            elif verb == "DATA":
                writer.write(b"354 go on\r\n")
                text = await reader.readuntil(b"\r\n.\r\n")
                self.mails.append((sender, to, text))
                self.encrypted.append(tls)
                writer.write(b"250 queued as 1\r\n")
            elif verb == "QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                writer.write(b"502 unknown\r\n")

    async def _login(
        self, line: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if line.upper().startswith("AUTH PLAIN "):
            _, user, word = base64.b64decode(line.split(" ")[2]).decode().split("\0")
        else:
            told = []
            for question in (b"Username:", b"Password:"):
                writer.write(b"334 " + base64.b64encode(question) + b"\r\n")
                told.append(base64.b64decode(await reader.readuntil(b"\r\n")).decode())
            user, word = told
        self.logins.append((user, word))
        return (user, word) == (self.username, PASSWORD)
