"""The call page's script in Node, with fakes of the browser and of LiveKit's client."""

import json
from pathlib import Path
from typing import Any

import pytest

from devkit import nodejs
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
globalThis.fetch = async (url, { method }) => {
  await pause(20);
  const [status, answer] = method === "POST" ? OPENING : FOLLOWING;
  if (!status) throw new TypeError("network");
  return { ok: status < 300, status, json: async () => answer };
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
export class Room {
  on() {}
  registerTextStreamHandler() {}
  disconnect() {}
  async connect() { throw new Error("the room was closed"); }
}
"""
REJECTED = (429, {"reason": "TooManyPending", "detail": "50 calls already wait."})
OPENED = (201, {"callId": "c1", "callToken": "t", "url": "wss://livekit.example", "token": "t", "state": "dispatched"})
NO_ANSWER: tuple[int, dict[str, Any]] = (0, {})


def call(folder: Path, opening: object, following: object = NO_ANSWER, microphone_after: int = 0) -> dict[str, Any]:
    """Open a call in the page, and return the reason that the page shows and the number of microphones left open.

    `opening` is the gateway's answer to the request for the call and `following` its later answers: status and body.
    """
    script = (WEB_DIR / "call.js").read_text().replace("./livekit-client.esm.mjs", "./client.mjs")
    page = BROWSER.replace("MICROPHONE_AFTER", str(microphone_after))
    page = page.replace("OPENING", json.dumps(opening)).replace("FOLLOWING", json.dumps(following))
    for name, text in {"call.mjs": script, "client.mjs": CLIENT, "page.mjs": page}.items():
        (folder / name).write_text(text)
    result: dict[str, Any] = json.loads(nodejs.run(folder, "page.mjs"))
    return result


@pytest.mark.parametrize("microphone_after", [0, 40], ids=["allowed before the rejection", "allowed after it"])
def test_rejected_call_leaves_no_microphone_open(tmp_path: Path, microphone_after: int) -> None:
    result = call(tmp_path, REJECTED, microphone_after=microphone_after)
    assert result == {"reason": "TooManyPending", "open": 0}


@pytest.mark.parametrize(
    ("following", "reason"),
    [
        pytest.param((200, {"state": "failed", "reason": "NoAvatarSeat"}), "NoAvatarSeat", id="call ended"),
        pytest.param((200, {"state": "joined", "reason": ""}), "ConnectionLost", id="call continues"),
        pytest.param(NO_ANSWER, "ConnectionLost", id="gateway does not answer"),
    ],
)
def test_failed_connection_gets_its_reason_from_the_gateway(tmp_path: Path, following: object, reason: str) -> None:
    assert call(tmp_path, OPENED, following) == {"reason": reason, "open": 0}
