"""The call page's script in Node, with the browser and LiveKit's client played."""

import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.settings import WEB_DIR

BROWSER = """
globalThis.window = { isSecureContext: true };
Object.defineProperty(globalThis, "navigator", { value: { mediaDevices: {} } });
globalThis.addEventListener = () => {};
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
let open = 0;
globalThis.openTrack = async () => {
  await pause(MICROPHONE_AFTER);
  open += 1;
  return { stop: () => { open -= 1; } };
};
globalThis.fetch = async () => {
  await pause(20);
  return { ok: false, status: 429, json: async () => ({ error: { reason: "TooManyPending" } }) };
};
const { Call } = await import("./call.mjs");
const call = new Call();
let reason = "";
call.addEventListener("state", ({ detail }) => { reason = detail.reason ?? reason; });
await call.start({ agent: "ornina", name: "Layla", language: "ar" });
await pause(60);
console.log(JSON.stringify({ reason, open }));
"""
CLIENT = """
export const ConnectionState = {}, LogLevel = {}, RoomEvent = {}, Track = { Source: {}, Kind: {} };
export const setLogLevel = () => {}, createLocalAudioTrack = () => globalThis.openTrack();
export class Room { on() {} registerTextStreamHandler() {} disconnect() {} }
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
@pytest.mark.parametrize("microphone_after", [0, 40], ids=["allowed before the refusal", "allowed after it"])
def test_a_refused_call_leaves_no_microphone_open(tmp_path: Path, microphone_after: int) -> None:
    script = (WEB_DIR / "call.js").read_text().replace("/assets/livekit-client.esm.mjs", "./client.mjs")
    (tmp_path / "call.mjs").write_text(script)
    (tmp_path / "client.mjs").write_text(CLIENT)
    (tmp_path / "page.mjs").write_text(BROWSER.replace("MICROPHONE_AFTER", str(microphone_after)))
    done = subprocess.run(["node", "page.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() == '{"reason":"TooManyPending","open":0}', done.stderr
