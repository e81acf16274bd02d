"""The call page in a real browser: a person types a name, presses Start call, hears the agent and sees it move."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e import agents
from tests.e2e.browser import browser_page, page_on_localhost
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)

# What the browser plays and shows, measured beside the page's own script: the loudest of every element that plays
# sound, and how many of the picture's pixels change between two looks.
HEARD = """async () => {
  const streams = [...document.querySelectorAll("audio, video")].map((e) => e.srcObject)
    .filter((s) => s && s.getAudioTracks().length);
  let loudest = 0;
  for (const stream of streams) {
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    for (let look = 0; look < 20; look++) {
      await new Promise((done) => setTimeout(done, 50));
      analyser.getFloatTimeDomainData(samples);
      loudest = Math.max(loudest, ...samples.map(Math.abs));
    }
    await context.close();
  }
  return loudest;
}"""
MOVED = """async () => {
  const video = document.getElementById("video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  if (!canvas.width) return 0;
  const look = () => {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height).data;
  };
  const before = look();
  await new Promise((done) => setTimeout(done, 700));
  const after = look();
  let changed = 0;
  for (let i = 0; i < before.length; i += 4) changed += Math.abs(before[i] - after[i]) > 24;
  return changed;
}"""


@pytest.mark.parametrize(
    ("language", "direction", "start", "hang_up"),
    [("ar", "rtl", "ابدأ المكالمة", "إنهاء المكالمة"), ("en", "ltr", "Start call", "Hang up")],
    ids=["in Arabic, right to left", "in English"],
)
def test_a_person_hears_the_agent_and_sees_it_move(
    platform: Platform, tmp_path: Path, language: str, direction: str, start: str, hang_up: str
) -> None:
    # A greeting long enough to be looked at while it lasts, on a machine that is busy.
    agent = agents.manifest(platform.targets, f"page-{language}", avatar=True)
    agent["spec"]["persona"]["greeting"] *= 3
    with agents.declared(platform.product, agent) as name, page_on_localhost(platform) as address:
        with browser_page(tmp_path / "profile") as page:
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            page.goto(f"{address}/?agent={name}&lang={language}")
            root = page.locator("html")
            expect(root).to_have_attribute("dir", direction)
            page.get_by_role("textbox").fill("ليلى")
            page.get_by_role("button", name=start).click()
            expect(root).to_have_attribute("data-call-state", "connected", timeout=30_000)
            eventually_blocking(lambda: page.evaluate(HEARD) > 0.02, "the browser plays the agent's voice", 30)
            eventually_blocking(lambda: page.evaluate(MOVED) > 20, "the browser shows a moving picture", 30)
            page.screenshot(path=tmp_path / "call.png")
            page.get_by_role("button", name=hang_up).click()
            expect(root).to_have_attribute("data-call-state", "ended", timeout=30_000)
        assert not [text for text in said if "Security Policy" in text]
