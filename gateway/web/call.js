// One call: opens it at the gateway, joins its room, and follows it to its end. Independent of the page.

import {
  ConnectionState, LogLevel, Room, RoomEvent, Track, createLocalAudioTrack, setLogLevel,
} from "./livekit-client.esm.mjs";

setLogLevel(LogLevel.warn);

const TRANSCRIPTION_TOPIC = "lk.transcription"; // livekit-agents, types.py: TOPIC_TRANSCRIPTION
const AGENT_STATE = "lk.agent.state"; // livekit-agents, types.py: ATTRIBUTE_AGENT_STATE
const REQUEST_ATTEMPTS = 4;
const FINAL_STATES = new Set(["failed", "ended"]);

/** The call failed. `reason` is a key of `reasons` in texts.js. */
export class CallError extends Error {
  constructor(reason, detail = "") {
    super(detail || reason);
    this.reason = reason;
  }
}

/**
 * Events: `state` {state, position, reason}, `video` (a LiveKit track or null), `audio` (a MediaStreamTrack),
 * `caption` {id, mine, text, final}, `agentstate` (LiveKit's agent state), `microphone` (true once it is published),
 * `sound` (whether the browser allows audio playback).
 */
export class Call extends EventTarget {
  #room = new Room({ adaptiveStream: true, disconnectOnPageLeave: true });
  #opened = null; // the gateway's response to POST /v1/calls
  #latest = { state: "connecting", position: null, reason: "" }; // the gateway's latest response for this call
  #isOver = false;
  #microphonePromise = null;
  #microphone = null;

  /** Open the call. Resolves when the microphone is published in the room; events report everything else. */
  async start({ agent, name, language }) {
    this.#listen();
    this.#emit("state", { state: "connecting" });
    try {
      if (!window.isSecureContext || !navigator.mediaDevices) throw new CallError("InsecureContext");
      const openPromise = openCall({ agent, name, language });
      this.#microphonePromise = openMicrophone();
      this.#microphonePromise.catch(() => {}); // awaited below; this prevents an unhandled rejection until then
      this.#opened = await openPromise;
      if (this.#isOver) return void this.#release();
      this.#follow();
      await this.#connect();
      this.#microphone = await this.#microphonePromise;
      if (this.#isOver) return;
      await this.#room.localParticipant.publishTrack(this.#microphone, { source: Track.Source.Microphone });
      this.#emit("microphone", true);
    } catch (error) {
      this.#fail(error instanceof CallError ? error.reason : "Other", error);
    }
  }

  async mute(muted) {
    if (muted) await this.#microphone?.mute();
    else await this.#microphone?.unmute();
  }

  enableSound() {
    return this.#room.startAudio();
  }

  /** End the call, here and for the agent. */
  hangUp() {
    if (this.#isOver) return;
    this.#finish("ended", "HungUp");
  }

  async #connect() {
    try {
      await this.#room.connect(this.#opened.url, this.#opened.token);
    } catch (error) {
      if (this.#isOver) return;
      console.error(error);
      return this.#onDisconnected(); // the room may have been closed while the browser was connecting
    }
    this.#update();
  }

  /** Read the call's state from the gateway until the call is over. */
  async #follow() {
    this.#latest = this.#opened;
    this.#update();
    while (!this.#isOver && !FINAL_STATES.has(this.#latest.state)) {
      const waits = this.#latest.state === "waiting";
      try {
        this.#latest = await this.#poll(waits ? 4 : 25);
      } catch {
        await pause(1500); // the gateway is restarting or unreachable; the call continues
      }
      if (!this.#isOver) this.#update();
    }
  }

  async #poll(seconds) {
    const query = new URLSearchParams({ state: this.#latest.state, waitSeconds: String(seconds) });
    const answer = await fetch(`/v1/calls/${this.#opened.callId}?${query}`, { headers: this.#authorization() });
    if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`);
    return answer.json();
  }

  #authorization() {
    return { Authorization: `Bearer ${this.#opened.callToken}` };
  }

  #update() {
    const { state, position, reason } = this.#latest;
    if (FINAL_STATES.has(state)) return this.#finish(state, reason);
    if (state === "waiting") return this.#emit("state", { state, position });
    if (state === "dispatched") return this.#emit("state", { state: "joining" });
    const inRoom = this.#room.state === ConnectionState.Connected;
    this.#emit("state", { state: state === "joined" && inRoom ? "connected" : "connecting" });
  }

  #listen() {
    const room = this.#room;
    room.on(RoomEvent.TrackSubscribed, (track) => this.#onTrack(track));
    room.on(RoomEvent.TrackUnsubscribed, (track) => {
      track.detach().forEach((element) => element.remove());
      if (track.kind === Track.Kind.Video) this.#emit("video", null);
    });
    room.on(RoomEvent.ParticipantAttributesChanged, (changed, participant) => {
      if (participant.isAgent && changed[AGENT_STATE]) this.#emit("agentstate", changed[AGENT_STATE]);
    });
    room.on(RoomEvent.AudioPlaybackStatusChanged, () => this.#emit("sound", room.canPlaybackAudio));
    room.on(RoomEvent.Reconnecting, () => this.#emit("state", { state: "reconnecting" }));
    room.on(RoomEvent.Reconnected, () => this.#update());
    room.on(RoomEvent.Disconnected, () => this.#onDisconnected());
    room.registerTextStreamHandler(TRANSCRIPTION_TOPIC, (reader, { identity }) => this.#onCaption(reader, identity));
    addEventListener("pagehide", () => this.hangUp(), { once: true });
  }

  #onTrack(track) {
    if (track.kind === Track.Kind.Audio) {
      const element = track.attach();
      element.hidden = true;
      document.body.append(element);
      this.#emit("audio", track.mediaStreamTrack);
    } else if (track.kind === Track.Kind.Video) {
      this.#emit("video", track);
    }
  }

  async #onCaption(reader, identity) {
    const attributes = reader.info.attributes ?? {};
    const id = attributes["lk.segment_id"] ?? reader.info.id;
    const mine = identity === this.#room.localParticipant.identity;
    const final = attributes["lk.transcription_final"] === "true";
    let text = "";
    for await (const chunk of reader) {
      text += chunk;
      this.#emit("caption", { id, mine, text, final: false });
    }
    this.#emit("caption", { id, mine, text, final });
  }

  /** The browser is disconnected from the room. The gateway's state says whether the call is over. */
  async #onDisconnected() {
    if (this.#isOver || !this.#opened) return;
    await pause(300);
    try {
      this.#latest = await this.#poll(3);
    } catch {
      return this.#finish("failed", "ConnectionLost");
    }
    const { state, reason } = this.#latest;
    if (FINAL_STATES.has(state)) this.#finish(state, reason);
    else this.#finish("failed", "ConnectionLost");
  }

  #fail(reason, error) {
    if (this.#isOver) return;
    console.error(error);
    this.#finish("failed", reason);
  }

  #finish(state, reason) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#release();
    this.#emit("state", { state, reason });
  }

  #release() {
    // The caller may allow access to the microphone only after the call is over.
    this.#microphonePromise?.then((track) => track.stop(), () => {});
    this.#room.disconnect();
    if (!this.#opened) return;
    const options = { method: "DELETE", headers: this.#authorization(), keepalive: true };
    fetch(`/v1/calls/${this.#opened.callId}`, options).catch(() => {});
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

/** Open a call. All attempts have the same idempotency key, so that a lost response does not lead to a second call. */
async function openCall({ agent, name, language }) {
  const key = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  const body = JSON.stringify({ agent: agentReference(agent), name, language, capabilities: ["video", "captions"] });
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key };
  for (let attempt = 1; ; attempt += 1) {
    let answer = null;
    try {
      answer = await fetch("/v1/calls", { method: "POST", headers, body });
      if (answer.ok) return await answer.json();
    } catch (error) {
      if (attempt === REQUEST_ATTEMPTS) throw new CallError("Other", String(error));
    }
    if (answer && (answer.status < 500 || attempt === REQUEST_ATTEMPTS)) {
      const problem = await answer.json().catch(() => ({}));
      throw new CallError(problem.reason ?? "Other", problem.detail);
    }
    await pause(700 * attempt);
  }
}

/** Return the request's agent for `name` or `namespace/name`. */
function agentReference(agent) {
  const [namespace, name] = agent.includes("/") ? agent.split("/", 2) : [null, agent];
  return namespace ? { namespace, name } : name;
}

async function openMicrophone() {
  try {
    return await createLocalAudioTrack({ echoCancellation: true, noiseSuppression: true, autoGainControl: true });
  } catch (error) {
    throw new CallError(error?.name === "NotFoundError" ? "MicrophoneMissing" : "MicrophoneRefused", String(error));
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
