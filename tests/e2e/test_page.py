"""The call page in a real browser: a caller enters a name, starts the call, hears the agent and sees its avatar."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e import agents
from tests.e2e.browser import browser_page, page_on_localhost
from tests.e2e.conftest import Platform
from tests.waiting import eventually_blocking

pytestmark = pytest.mark.timeout(400)

# What the browser plays and shows, measured independently of the page's script: the highest volume of all elements
# that play sound, and the number of pixels of the video that change within 700 ms.
LOUDEST = """async () => {
  const streams = [...document.querySelectorAll("audio, video")].map((e) => e.srcObject)
    .filter((s) => s && s.getAudioTracks().length);
  let loudest = 0;
  for (const stream of streams) {
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    for (let i = 0; i < 20; i++) {
      await new Promise((done) => setTimeout(done, 50));
      analyser.getFloatTimeDomainData(samples);
      loudest = Math.max(loudest, ...samples.map(Math.abs));
    }
    await context.close();
  }
  return loudest;
}"""
CHANGED_PIXELS = """async () => {
  const video = document.getElementById("video");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  if (!canvas.width) return 0;
  const pixels = () => {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height).data;
  };
  const before = pixels();
  await new Promise((done) => setTimeout(done, 700));
  const after = pixels();
  let changed = 0;
  for (let i = 0; i < before.length; i += 4) changed += Math.abs(before[i] - after[i]) > 24;
  return changed;
}"""


@pytest.mark.parametrize(
    ("language", "direction", "start", "hang_up"),
    [("ar", "rtl", "بدء المكالمة", "إنهاء المكالمة"), ("en", "ltr", "Start call", "Hang up")],
    ids=["Arabic", "English"],
)
def test_caller_hears_agent_and_sees_its_avatar(
    platform: Platform, tmp_path: Path, language: str, direction: str, start: str, hang_up: str
) -> None:
    # A greeting that lasts long enough for both measurements, also on a busy machine.
    agent = agents.manifest(platform.targets, f"page-{language}", avatar=True, arabic=True)
    agent["spec"]["persona"]["greeting"] *= 3
    with agents.declared(platform.product, agent) as name, page_on_localhost(platform) as address:
        with browser_page(tmp_path / "profile") as page:
            logged: list[str] = []
            page.on("console", lambda message: logged.append(message.text))
            page.goto(f"{address}/?agent={name}&lang={language}")
            root = page.locator("html")
            expect(root).to_have_attribute("dir", direction)
            page.get_by_role("textbox").fill("ليلى")
            page.get_by_role("button", name=start).click()
            expect(root).to_have_attribute("data-call-state", "connected", timeout=30_000)
            eventually_blocking(lambda: page.evaluate(LOUDEST) > 0.02, "the browser plays the agent's voice", 30)
            eventually_blocking(lambda: page.evaluate(CHANGED_PIXELS) > 20, "the browser shows the moving avatar", 30)
            page.screenshot(path=tmp_path / "call.png")
            page.get_by_role("button", name=hang_up).click()
            expect(root).to_have_attribute("data-call-state", "ended", timeout=30_000)
        assert not [text for text in logged if "Security Policy" in text]
