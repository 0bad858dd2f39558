"""A private page in a real Chromium: nothing without the token, everything with it."""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import async_playwright, expect

from tests.adapters.web.served import STATUS, TOKEN, served


async def test_a_private_page_is_unlocked_by_its_token_and_locked_again(
    chromium_binary: Path,
) -> None:
    async with served(private=True) as page, async_playwright() as play:
        await page.tell(states={"status": {**STATUS, "trading_state": "trading"}})
        browser = await play.chromium.launch(
            executable_path=chromium_binary, args=["--no-sandbox", "--disable-gpu"]
        )
        tab = await browser.new_page()
        await tab.goto(page.address)
        await expect(tab.locator("#line")).to_have_text("locked")
        await expect(tab.locator("#h-positions")).to_be_hidden()
        assert "10\u202f000" not in await tab.locator("body").inner_text()
        await tab.locator("#token").fill("another-token-altogether")
        await tab.get_by_role("button", name="Unlock").click()
        await expect(tab.locator("#unlock-note")).to_contain_text("not the token")
        await tab.locator("#token").fill(TOKEN)
        await tab.get_by_role("button", name="Unlock").click()
        await page.tell()
        await expect(tab.locator("#line")).to_have_text("live", timeout=20_000)
        await expect(tab.locator("#figures")).to_contain_text("10\u202f000.00")
        await tab.get_by_role("button", name="Lock", exact=True).click()
        await expect(tab.locator("#line")).to_have_text("locked")
        await expect(tab.locator("#figures")).to_be_hidden()
        await browser.close()
