// The call page: shows a call, and lets the caller start it, mute the microphone and hang up, in Arabic and English.

import { Call } from "./call.js";
import { directions, supported, texts } from "./texts.js";

const root = document.documentElement;
const byId = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const agent = query.get("agent") ?? "";

let language = supported(query.get("lang")) ?? supported(navigator.language) ?? "en";
let languageChosen = supported(query.get("lang")) !== undefined; // by the link or a button
let call = null;
let shown = { state: "idle" }; // the last argument of show()
let agentState = ""; // LiveKit's: listening, thinking, speaking
let muted = false;
let stopMeter = null;

const reasonText = (reason) => texts[language].reasons[reason] ?? texts[language].reasons.Other;

function setLanguage(next) {
  language = next;
  root.lang = next;
  root.dir = directions[next];
  document.title = `${texts[next].title} · ${agentTitle()}`;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = texts[next][element.dataset.text];
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", texts[next][element.dataset.label]);
  for (const button of document.querySelectorAll("[data-language]")) button.setAttribute("aria-pressed", String(button.dataset.language === next));
  show(shown);
}

const agentTitle = () => agent.split("/").pop() || "?";

/** Show the state of the call. Tests wait for `data-call-state`. */
function show(next) {
  shown = next;
  const { state, position, reason } = next;
  const over = state === "failed" || state === "ended";
  const calling = state !== "idle" && !over;
  root.dataset.callState = state;
  root.dataset.callReason = reason ?? "";
  byId("status").textContent = over ? "" : statusText(state, position); // `over-message` shows why a call ended
  byId("start").hidden = state !== "idle";
  byId("controls").hidden = !calling;
  byId("over").hidden = !over;
  byId("over-message").textContent = over ? reasonText(reason || (state === "ended" ? "Finished" : "Other")) : "";
  byId("mute").textContent = muted ? texts[language].unmute : texts[language].mute;
}

function statusText(state, position) {
  const words = texts[language];
  if (state === "waiting" && position) return words.waitingAt(position);
  if (state === "connected" && agentState in words.agentStates) return words.agentStates[agentState];
  return words.states[state] ?? "";
}

function startCall(name) {
  call = new Call();
  muted = false;
  agentState = "";
  byId("lines").replaceChildren();
  byId("captions").hidden = true;
  call.addEventListener("state", ({ detail }) => onState(detail));
  call.addEventListener("video", ({ detail }) => onVideo(detail));
  call.addEventListener("audio", ({ detail }) => startMeter(detail));
  call.addEventListener("caption", ({ detail }) => onCaption(detail));
  call.addEventListener("microphone", () => (byId("mute").disabled = false));
  call.addEventListener("sound", ({ detail }) => (byId("sound").hidden = detail));
  call.addEventListener("agentstate", ({ detail }) => {
    agentState = detail;
    root.dataset.agentState = detail;
    show(shown);
  });
  call.start({ agent, name, language });
  byId("stage").focus(); // not a button, so that pressing Enter twice does not hang up
}

function onState(detail) {
  const before = shown.state;
  show(detail);
  if ((detail.state === "failed" || detail.state === "ended") && before !== detail.state) {
    onVideo(null);
    stopMeter?.();
    stopMeter = null;
    byId("mute").disabled = true;
    byId("mute").setAttribute("aria-pressed", "false");
    byId("sound").hidden = true;
    byId("again").focus();
  }
}

function onVideo(track) {
  const video = byId("video");
  if (track) track.attach(video);
  else video.srcObject = null;
  video.hidden = !track;
  if (!track) root.dataset.video = "off";
}

function onCaption({ id, mine, text, final }) {
  if (!text.trim()) return;
  const lines = byId("lines");
  let line = [...lines.children].find((element) => element.dataset.segment === id);
  if (!line) {
    line = document.createElement("li");
    line.dataset.segment = id;
    line.className = mine ? "mine" : "theirs";
    const who = document.createElement("span");
    who.className = "who";
    who.textContent = mine ? texts[language].you : texts[language].agent;
    const words = document.createElement("bdi");
    words.className = "words";
    line.append(who, words);
    lines.append(line);
  }
  line.querySelector(".words").textContent = text;
  line.classList.toggle("final", final);
  byId("captions").hidden = false;
  byId("captions").scrollTop = byId("captions").scrollHeight;
}

/** Show the volume of the agent's voice on the indicator. */
function startMeter(track) {
  stopMeter?.();
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 512;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const level = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
    byId("orb").style.setProperty("--level", Math.min(1, level * 5).toFixed(3));
  }, 60);
  stopMeter = () => {
    clearInterval(timer);
    context.close();
    byId("orb").style.setProperty("--level", "0");
  };
}

/** Read the agent from the gateway: show why it takes no calls, or use its language. */
async function loadAgent() {
  byId("agent-name").textContent = agentTitle();
  if (!agent) return show({ state: "failed", reason: "AgentMissing" });
  const answer = await fetch(`/v1/agents/${agent.split("/").map(encodeURIComponent).join("/")}`).catch(() => null);
  if (!answer) return;
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) return show({ state: "failed", reason: body.reason ?? "Other" });
  if (!languageChosen && shown.state === "idle") setLanguage(supported(body.language) ?? language);
}

byId("start").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = byId("name").value.trim();
  byId("name-error").textContent = name ? "" : texts[language].nameMissing;
  byId("name").setAttribute("aria-invalid", String(!name));
  if (name) startCall(name);
  else byId("name").focus();
});

byId("mute").addEventListener("click", async () => {
  muted = !muted;
  byId("mute").setAttribute("aria-pressed", String(muted));
  show(shown);
  await call.mute(muted);
});

byId("video").addEventListener("playing", () => (root.dataset.video = "on"));
byId("hang-up").addEventListener("click", () => call.hangUp());
byId("sound").addEventListener("click", () => call.enableSound());
byId("again").addEventListener("click", () => {
  show({ state: "idle" });
  byId("captions").hidden = true;
  byId("name").focus();
});

for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    languageChosen = true;
    query.set("lang", button.dataset.language);
    history.replaceState(null, "", `?${query}`);
    setLanguage(button.dataset.language);
  });
}

setLanguage(language);
await loadAgent();
