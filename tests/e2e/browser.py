"""A real browser on the call page, with a microphone that needs no person to allow it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.conftest import Platform
from tests.ports import free_port

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
]


@contextmanager
def page_on_localhost(platform: Platform) -> Iterator[str]:
    """The gateway at an address where browsers allow a microphone."""
    port = free_port()
    with subprocess.Popen(platform.product.forward_gateway(port), stdout=subprocess.PIPE, text=True) as forward:
        try:
            assert forward.stdout is not None
            assert "Forwarding" in forward.stdout.readline()
            yield f"http://localhost:{port}"
        finally:
            forward.terminate()


@contextmanager
def browser_page(profile: Path) -> Iterator[Page]:
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile), executable_path=CHROMIUM, headless=True, args=FLAGS, permissions=["microphone"]
        )
        try:
            page = context.pages[0]
            page.set_default_timeout(60_000)
            yield page
        finally:
            context.close()


def told_on_the_page(platform: Platform, agent: str, profile: Path) -> tuple[str, str]:
    """A person calls from the call page, and the call does not work: the reason, and what the page says about it."""
    with page_on_localhost(platform) as address, browser_page(profile) as page:
        page.goto(f"{address}/?agent={agent}&lang=en")
        page.get_by_role("textbox").fill("Layla")
        page.get_by_role("button", name="Start call").click()
        root = page.locator("html")
        expect(root).to_have_attribute("data-call-state", "failed", timeout=60_000)
        page.screenshot(path=profile.with_name("told.png"))
        return root.get_attribute("data-call-reason") or "", page.locator("#over-message").inner_text()
