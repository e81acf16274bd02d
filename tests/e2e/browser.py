"""A real browser on the call page, with a fake microphone that needs no permission."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e.conftest import Platform
from tests.ports import free_port

CHROMIUM = "/usr/bin/chromium"
START_MILLISECONDS = 120_000
expect.set_options(timeout=30_000)  # of every expectation without its own: a busy machine takes longer than 5 s
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
    """Forward the gateway to localhost, where browsers allow microphone access. Yields its URL."""
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
    """Open a browser with an empty page."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            permissions=["microphone"],
            timeout=START_MILLISECONDS,
        )
        try:
            page = context.pages[0]
            page.set_default_timeout(60_000)
            yield page
        finally:
            context.close()


def failure_on_page(platform: Platform, agent: str, profile: Path) -> tuple[str, str]:
    """Start a call that fails on the call page. Returns the reason and the page's text about it."""
    with page_on_localhost(platform) as address, browser_page(profile) as page:
        page.goto(f"{address}/?agent={agent}&lang=en")
        page.get_by_role("textbox").fill("Layla")
        page.get_by_role("button", name="Start call").click()
        root = page.locator("html")
        expect(root).to_have_attribute("data-call-state", "failed", timeout=60_000)
        page.screenshot(path=profile.with_name("failure.png"))
        return root.get_attribute("data-call-reason") or "", page.locator("#over-message").inner_text()
