"""Messages reach real servers, and no server that fails holds up another or tells a secret."""

from __future__ import annotations

import asyncio
import email
import email.policy
import hashlib
import hmac
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop
from structlog.testing import capture_logs

from adapters.notify import Mail, MailServer, Post, Telegram, Undelivered, Webhook
from adapters.notify import hooks as hooks_module
from adapters.notify import post as post_module
from adapters.notify.post import WAITING_MAX, attempt
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import AlertKind
from daemon.status.notices import Message, Severity
from tests.adapters.people import PASSWORD, TOKEN, HookServer, MailPost
from tests.e2e.tls_proxy import Certificates, make_certificates

MESSAGE = Message(
    Severity.CRITICAL, str(AlertKind.HALTED), "trading", "net is\n.0.06", 1_700_000_000_000, 1
)
SECRET = "key-of-the-webhook"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the waits, so that outages pass in tenths of a second."""
    monkeypatch.setattr(hooks_module, "TOTAL_S_MAX", 0.3)
    monkeypatch.setattr(post_module, "SEND_S_MAX", 0.6)
    monkeypatch.setattr(post_module, "PAUSE_S_MIN", 0.02)
    monkeypatch.setattr(post_module, "PAUSE_S_MAX", 0.1)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("mail"), ("localhost",))


def refusal(answer: Undelivered | str) -> Undelivered:
    assert isinstance(answer, Undelivered), answer
    return answer


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - a server's list tells nobody that it grows
            await asyncio.sleep(0.01)


# ---- webhook -----------------------------------------------------------------------------------


async def test_a_webhook_gets_what_happened_signed_together_with_the_time() -> None:
    async with HookServer().running() as server:
        hook = Webhook(f"{server.address}/hook", run="paper", secret=SECRET)
        assert await hook.send(MESSAGE) == "HTTP 200"
    values, headers, body = server.got[0], server.headers[0], server.bodies[0]
    assert values["kind"] == "halted"
    assert values["severity"] == "critical"
    assert values["run"] == "paper"
    assert "docs/runbook.md#halted" in values["text"]
    signed = headers["X-Equipoise-Timestamp"].encode() + b"." + body
    want = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert headers["X-Equipoise-Signature"] == f"sha256={want}"


@pytest.mark.parametrize(
    ("status", "is_final"), [(307, True), (404, True), (429, False), (500, False)]
)
async def test_what_a_webhook_refuses_is_tried_again_only_where_that_can_help(
    status: int, is_final: bool
) -> None:
    server = HookServer(answers=[(status, {}, {"Retry-After": "7", "Location": "/hook"})])
    async with server.running():
        failed = refusal(await attempt(Webhook(f"{server.address}/hook", run="r"), MESSAGE))
    assert failed.is_final is is_final
    assert failed.after_s == (None if is_final else 7.0)
    assert server.got == [], "a redirect was followed"


async def test_no_failure_of_a_webhook_tells_its_address() -> None:
    url = "http://127.0.0.1:1/services/secret-part-of-it"
    failed = refusal(await attempt(Webhook(url, run="r"), MESSAGE))
    assert "secret-part" not in str(failed)
    assert not failed.is_final


# ---- telegram ----------------------------------------------------------------------------------


async def test_telegram_gets_the_text_for_the_chat_and_a_wrong_token_is_not_shown() -> None:
    async with HookServer().running() as server:
        bot = Telegram(TOKEN, "-100", api=server.address, run="paper")
        assert await bot.send(MESSAGE) == "HTTP 200, ok"
        wrong = Telegram("999:wrong-token", "-100", api=server.address, run="paper")
        failed = refusal(await attempt(wrong, MESSAGE))
    assert server.got[0]["chat_id"] == "-100"
    assert server.got[0]["text"].startswith("[CRITICAL] paper: halted (trading)")
    assert server.got[0]["disable_notification"] is False
    assert str(failed) == "HTTP 401 Unauthorized"
    assert failed.is_final


async def test_telegrams_own_pause_is_kept() -> None:
    told = {"ok": False, "description": "Too Many Requests", "parameters": {"retry_after": 9}}
    server = HookServer(answers=[(429, told, {})])
    async with server.running():
        bot = Telegram(TOKEN, "1", api=server.address, run="r")
        failed = refusal(await attempt(bot, MESSAGE))
    assert failed.after_s == 9.0


# ---- e-mail ------------------------------------------------------------------------------------


def mail_of(server: MailPost, certificates: Certificates | None, **changes: object) -> Mail:
    trusted = None if certificates is None else str(certificates.authority)
    context = None if trusted is None else ssl.create_default_context(cafile=trusted)
    where = MailServer("localhost", server.port, "starttls", "equipoise", PASSWORD, context)
    where = replace(where, **changes)  # type: ignore[arg-type] # each test names what it changes
    return Mail(where, "bot@tests", ("a@tests", "b@tests"), run="paper")


@pytest.mark.parametrize("ways", ["PLAIN LOGIN", "LOGIN"])
async def test_mail_is_handed_in_after_starttls_and_a_login(
    certificates: Certificates, ways: str
) -> None:
    async with MailPost(certificates, ways=ways).running() as server:
        assert await mail_of(server, certificates).send(MESSAGE) == "250 queued as 1"
    assert server.encrypted == [True]
    assert server.logins == [("equipoise", PASSWORD)]
    sender, to, text = server.mails[0]
    assert sender == "MAIL FROM:<bot@tests>"
    assert len(to) == 2
    unstuffed = text.removesuffix(b".\r\n").replace(b"\r\n..", b"\r\n.")
    mail = email.message_from_bytes(unstuffed, policy=email.policy.default)
    assert mail["Subject"] == "[CRITICAL] paper: halted (trading)"
    assert mail["X-Equipoise-Severity"] == "critical"
    assert "\n.0.06" in mail.get_content().replace("\r\n", "\n")


def test_mail_is_handed_in_on_the_loop_that_a_daemon_runs_on(certificates: Certificates) -> None:
    async def hand_in() -> list[bool]:
        async with MailPost(certificates).running() as server:
            assert await mail_of(server, certificates).send(MESSAGE) == "250 queued as 1"
        return server.encrypted

    assert uvloop.run(hand_in()) == [True]


async def test_mail_is_handed_in_over_tls_from_the_start(certificates: Certificates) -> None:
    async with MailPost(certificates).running(tls=True) as server:
        assert (await mail_of(server, certificates, tls="tls").send(MESSAGE)).startswith("250")
    assert server.encrypted == [True]


async def test_no_password_leaves_without_encryption(certificates: Certificates) -> None:
    async with MailPost(None).running() as server:
        failed = refusal(await attempt(mail_of(server, certificates), MESSAGE))
    assert str(failed) == "the server offers no STARTTLS"
    assert server.logins == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(certificates: Certificates) -> None:
    async with MailPost(certificates).running() as server:
        mail = mail_of(server, None, context=ssl.create_default_context())
        failed = refusal(await attempt(mail, MESSAGE))
    assert str(failed).startswith("certificate: ")
    assert server.logins == []


async def test_what_a_server_says_before_tls_is_forgotten(certificates: Certificates) -> None:
    lie = b"250-tests\r\n250 AUTH LOGIN\r\n"
    async with MailPost(certificates, before_tls=lie).running() as server:
        answer = await attempt(mail_of(server, certificates), MESSAGE)
    assert answer == "250 queued as 1" or isinstance(answer, Undelivered)
    assert not any(line.startswith("AUTH LOGIN") for line in server.commands)


async def test_a_wrong_password_is_told_and_not_shown(certificates: Certificates) -> None:
    async with MailPost(certificates).running() as server:
        mail = mail_of(server, certificates, password="wrong-password")
        failed = refusal(await attempt(mail, MESSAGE))
    assert str(failed) == "AUTH PLAIN: 535 wrong password"
    assert failed.is_final


async def test_one_address_that_is_refused_does_not_silence_the_other(
    certificates: Certificates,
) -> None:
    async with MailPost(certificates, refuses=("a@tests",)).running() as server:
        said = await mail_of(server, certificates).send(MESSAGE)
    assert said == "250 queued as 1; 1 addresses refused"
    assert [len(to) for _, to, _ in server.mails] == [1]


async def test_a_subject_of_many_lines_makes_no_header(certificates: Certificates) -> None:
    message = replace(MESSAGE, subject="x\r\nBcc: thief@tests")
    async with MailPost(certificates).running() as server:
        await mail_of(server, certificates).send(message)
    mail = email.message_from_bytes(server.mails[0][2], policy=email.policy.default)
    assert mail["Bcc"] is None


# ---- the post ----------------------------------------------------------------------------------


def numbered(number: int, severity: Severity = Severity.WARNING) -> Message:
    return replace(MESSAGE, text=f"number {number}", severity=severity)


async def test_a_server_that_flaps_gets_every_message_in_order_and_one_outage_is_told() -> None:
    bad = (503, dict[str, object](), dict[str, str]())
    server = HookServer(answers=[bad, bad, None, (200, {}, {}), bad])
    async with server.running():
        post = Post(Webhook(f"{server.address}/hook", run="r"))
        with capture_logs() as logs:
            async with post.running():
                for number in range(4):
                    post.put(numbered(number))
                await until(lambda: len(server.got) == 4)
                await until(lambda: post.delivered_n == 4)
    assert [one["message"] for one in server.got] == [f"number {n}" for n in range(4)]
    assert post.shown()["connected"] is True
    names = [entry["event"] for entry in logs]
    assert names.count(LogEvent.NOTIFICATIONS_LOST) == 2
    assert names.count(LogEvent.NOTIFICATIONS_RETURNED) == 2


async def test_one_way_that_stalls_holds_up_no_other_way_and_no_end() -> None:
    stalled, well = HookServer(answers=[None] * 50), HookServer()
    async with stalled.running(), well.running(), MailPost(stalls=True).running() as mute:
        bad = Post(Webhook(f"{stalled.address}/hook", run="r"))
        mail = Post(mail_of(mute, None, tls="none", password=None))
        good = Post(Webhook(f"{well.address}/hook", run="r"))
        loop = asyncio.get_running_loop()
        async with bad.running(), mail.running(), good.running():
            for number in range(20):
                for post in (bad, mail, good):
                    post.put(numbered(number))
            await until(lambda: len(well.got) == 20)
            assert bad.delivered_n == mail.delivered_n == 0
            begun_s = loop.time()
        assert loop.time() - begun_s < 3.0


async def test_the_outbox_is_bounded_and_keeps_what_is_critical() -> None:
    post = Post(Webhook("http://127.0.0.1:1/hook", run="r"))
    post.put(numbered(0, Severity.CRITICAL))
    for number in range(1, WAITING_MAX + 50):
        post.put(numbered(number))
    assert post.shown()["waiting_n"] == WAITING_MAX
    assert post.dropped_n == 50
    assert post._waiting[0].severity is Severity.CRITICAL


async def test_what_a_server_will_never_take_is_given_up_and_counted(tmp_path: Path) -> None:
    server = HookServer(answers=[(404, {}, {})])
    async with server.running():
        post = Post(Webhook(f"{server.address}/hook", run="r"))
        async with post.running():
            post.put(numbered(1))
            post.put(numbered(2))
            await until(lambda: post.delivered_n == 1)
    assert post.dropped_n == 1
    assert server.got[0]["message"] == "number 2"
