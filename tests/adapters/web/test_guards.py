"""Who is turned away: foreign names, strangers' pages, wrong tokens, odd paths, large bodies."""

from __future__ import annotations

import json

import pytest

from adapters.web.guards import BODY_BYTES_MAX, HEADERS, WRONG_MAX, Doorkeeper, names_of
from tests.adapters.web.served import TOKEN, Served, client, raw, served

PAUSE = {"action": "pause", "request_id": "one"}


async def get(port: int, line: str, host: str | None = None, more: str = "") -> tuple[int, bytes]:
    named = f"127.0.0.1:{port}" if host is None else host
    text = f"{line} HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n{more}\r\n"
    return await raw(port, text.encode())


async def post(
    page: Served,
    body: object = PAUSE,
    path: str = "api/command",
    text: str | None = None,
    **changed: str,
) -> tuple[int, dict[str, str]]:
    headers = {**page.headers, "content-type": "application/json"}
    headers |= {name.replace("_", "-"): value for name, value in changed.items()}
    sent = {name: value for name, value in headers.items() if value}
    data = json.dumps(body) if text is None else text
    async with client() as session:
        posting = session.post(page.address + path, data=data.encode(), headers=sent)
        async with posting as answer:
            found = await answer.text()
            return answer.status, json.loads(found) if found else {}


async def test_every_answer_carries_the_headers_and_no_cookie() -> None:
    async with served() as page, client() as session:
        for path in ("", "static/page.js", "api/trail", "healthz", "nothing", "api/decision/7"):
            async with session.get(page.address + path) as answer:
                await answer.read()
            assert {k: answer.headers[k] for k in HEADERS} == dict(HEADERS), path
            assert "set-cookie" not in answer.headers
            assert "server" not in answer.headers
        policy = HEADERS["content-security-policy"]
        assert "'unsafe" not in policy
        assert "http" not in policy


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "localhost"]
)
async def test_a_foreign_name_is_turned_away(host: str) -> None:
    async with served() as page:
        assert (await get(page.port, "GET /", host.format(port=page.port)))[0] == 421


async def test_our_names_are_let_in() -> None:
    async with served() as page:
        for host in (f"localhost:{page.port}", f"[::1]:{page.port}", "page.example"):
            assert (await get(page.port, "GET /", host))[0] == 200, host


async def test_two_names_at_once_are_turned_away() -> None:
    async with served() as page:
        more = f"Host: 127.0.0.1:{page.port}\r\n"
        assert (await get(page.port, "GET /", "evil.example", more))[0] in (400, 421)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/....//app.py",
        "/static/page.js%00.html",
        "/static/\\..\\app.py",
        "//evil.example/",
        "/.git/config",
        "/static/VENDOR.toml",
        "/static/",
        "/static/page.js/x",
        "/api/decision/-1",
        "/api/decision/1e3",
        "/api/decision/99999999999999999999",
        "http://127.0.0.1:1/static/page.js",
    ],
)
async def test_path_tricks_lead_nowhere(path: str) -> None:
    async with served() as page:
        status, answer = await get(page.port, f"GET {path}")
        assert status in (400, 404, 421), answer
        assert b"import " not in answer


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
async def test_other_methods_are_refused(method: str) -> None:
    async with served() as page:
        assert (await get(page.port, f"{method} /"))[0] in (400, 405)


async def test_reading_by_post_and_commanding_by_get_are_refused() -> None:
    async with served() as page:
        assert (await get(page.port, "GET /api/command"))[0] == 405
        assert (await post(page, path="api/trail"))[0] == 405


async def test_header_lines_cannot_be_smuggled_in() -> None:
    async with served() as page:
        for path in ("/static/x%0d%0aSet-Cookie:a=b", "/api/candles?symbol=%0d%0aSet-Cookie:a=b"):
            status, answer = await get(page.port, f"GET {path}")
            assert status == 400
            assert b"set-cookie: a" not in answer.lower()


async def test_endless_headers_and_long_questions_are_cut_off() -> None:
    async with served() as page:
        assert (await get(page.port, "GET /", more=f"X: {'y' * 2_000_000}\r\n"))[0] in (0, 400, 431)
        assert (await get(page.port, f"GET /?{'a' * 2000}"))[0] == 414


async def test_a_command_needs_the_token() -> None:
    async with served() as page:
        for given in ("", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}"):
            status, told = await post(page, authorization=given)
            assert status == 401, given
            assert TOKEN not in str(told)
        assert page.commands == []


async def test_the_right_token_commands() -> None:
    async with served() as page:
        status, told = await post(page)
        assert (status, told["request_id"]) == (200, "one")
        assert [str(c.action) for c in page.commands] == ["pause"]
        assert (await post(page, {}, "api/token"))[0] == 204


async def test_after_some_wrong_tokens_nobody_is_listened_to_there() -> None:
    async with served() as page:
        for _ in range(WRONG_MAX):
            assert (await post(page, authorization="Bearer wrong"))[0] == 401
        assert (await post(page, authorization="Bearer wrong"))[0] == 429
        status, told = await post(page)
        assert status == 429
        assert "wait" in told["why"]
        assert page.commands == []


def test_patience_comes_back_and_the_list_of_addresses_is_bounded() -> None:
    now = [0.0]
    door = Doorkeeper(TOKEN, lambda: now[0])

    def status(address: str, token: str) -> int | None:
        headers = [(b"authorization", f"Bearer {token}".encode())]
        refused = door.why_not({"client": (address, 1), "headers": headers})
        return None if refused is None else refused.status_code

    for _ in range(WRONG_MAX):
        status("a", "wrong")
    assert status("a", TOKEN) == 429
    assert status("b", TOKEN) is None
    now[0] = 61.0
    assert status("a", TOKEN) is None
    for n in range(3000):
        status(f"address {n}", "wrong")
    assert len(door._wrong) <= 1000


async def test_a_private_page_shows_nothing_without_the_token() -> None:
    async with served(private=True) as page:
        await page.tell(states={"status": {"equity": 12345.0}})
        for path in (
            "api/events",
            "api/trail",
            "api/decision/7",
            "api/candles?symbol=X",
            "metrics",
        ):
            for given in ("", "Authorization: Bearer wrong\r\n"):
                status, answer = await get(page.port, f"GET /{path}", more=given)
                assert status in (401, 429), path
                assert b"12345" not in answer
        assert (await get(page.port, "GET /healthz"))[0] == 200
        assert (await get(page.port, "GET /"))[0] == 200  # the page itself tells nothing


async def test_a_private_page_is_read_with_the_token() -> None:
    async with served(private=True) as page:
        more = f"Authorization: Bearer {TOKEN}\r\n"
        assert (await get(page.port, "GET /api/trail", more=more))[0] == 200


async def test_without_a_token_commands_are_off() -> None:
    async with served(token="") as page:
        status, told = await post(page)
        assert status == 403
        assert "web.token_file" in told["why"]
        assert page.commands == []


@pytest.mark.parametrize(
    "origin", ["", "null", "http://evil.example", "http://127.0.0.1", "file://"]
)
async def test_pages_of_strangers_cannot_command(origin: str) -> None:
    async with served() as page:
        assert (await post(page, origin=origin))[0] == 403
        assert page.commands == []


async def test_a_browser_that_says_another_site_asks_is_believed() -> None:
    async with served() as page:
        assert (await post(page, sec_fetch_site="cross-site"))[0] == 403
        assert (await post(page, sec_fetch_site="same-origin"))[0] == 200


async def test_a_form_of_another_page_is_no_command() -> None:
    async with served() as page:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            assert (await post(page, content_type=kind))[0] == 415
        assert page.commands == []


async def test_large_bodies_are_refused_before_they_are_read() -> None:
    async with served() as page:
        assert (await post(page, text="x" * (BODY_BYTES_MAX + 1)))[0] == 413
        host = f"127.0.0.1:{page.port}"
        head = (
            f"POST /api/command HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
            f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
            "Connection: close\r\n"
        )
        endless = head + "Transfer-Encoding: chunked\r\n\r\n" + "5\r\nxxxxx\r\n"
        assert (await raw(page.port, endless.encode()))[0] == 411
        assert page.commands == []


@pytest.mark.parametrize(
    "body",
    [
        {"action": "sell everything", "request_id": "x"},
        {"action": "pause"},
        {"action": "pause", "request_id": "../../x"},
        {"action": "pause", "request_id": "x", "more": 1},
        {"action": "flatten", "request_id": "x"},
        {"action": "flatten", "request_id": "x", "word": "kill"},
        {"action": "kill", "request_id": "x", "word": ""},
        {"action": "resume", "request_id": "x", "clear_latch": True},
        [],
        "pause",
    ],
)
async def test_what_is_no_whole_command_is_refused(body: object) -> None:
    async with served() as page:
        assert (await post(page, body))[0] == 400
        assert page.commands == []


@pytest.mark.parametrize("action", ["flatten", "kill"])
async def test_grave_commands_need_their_word(action: str) -> None:
    async with served() as page:
        status, _ = await post(page, {"action": action, "request_id": "x", "word": action})
        assert status == 200
        assert [str(c.action) for c in page.commands] == [action]


async def test_a_websocket_is_not_spoken() -> None:
    async with served() as page:
        more = "Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n"
        status, _ = await get(page.port, "GET /api/events", "evil.example", more)
        assert status == 421


def test_names_hold_the_port_and_know_ipv6() -> None:
    assert "[fe80::1]:8787" in names_of("fe80::1", 8787, [])
    assert "127.0.0.1" in names_of("127.0.0.1", 80, [])
    assert "127.0.0.1" not in names_of("127.0.0.1", 8787, [])
    assert "desk.example" in names_of("127.0.0.1", 8787, ["Desk.Example"])
