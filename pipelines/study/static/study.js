"use strict";

const KEYS = { ArrowLeft: "left", ArrowDown: "same", ArrowRight: "right" };
const SAID = { left: "← left", same: "same", right: "→ right" };
const TINY_PIXELS = 160; // videos this narrow are enlarged with their pixels as they are
const REST_MS = 350; // between two rounds, so that beginning and end are seen
const SEEN_MS = 220; // an answer stays in sight for so long

const base = location.pathname.replace(/\/+$/, "");
const find = (id) => document.getElementById(id);
const videos = [find("left"), find("right")];
const choices = [...document.querySelectorAll("#choices button")];
const steps = [...document.querySelectorAll("#steps li")];
const undoButtons = [...document.querySelectorAll(".undo")];

let state = null; // what the server said last
let loaded = null; // number of the pair whose videos play
let busy = false; // a request is under way
let paused = false;
let rest = null;

/* ------------------------------------------------------------ the server */

class Refused extends Error {}

async function ask(method, path, body) {
  const response = await fetch(`${base}/${path}`, {
    method,
    headers: body ? { "Content-Type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  if (!response.ok) throw new Refused(String(response.status));
  return response.json();
}

/* Do something with the server, one thing at a time; say what went wrong, and show what the server knows. */
async function during(work) {
  if (busy) return;
  busy = true;
  tell(null);
  try {
    await work();
  } catch (error) {
    if (error instanceof Refused) {
      // Such as a question that was answered in another window.
      state = await ask("GET", "state").catch(() => state);
    } else {
      tell("Your answer did not arrive. Look at your connection and answer again.");
    }
  } finally {
    busy = false;
    if (state) show();
  }
}

function tell(text) {
  find("message").hidden = !text;
  find("message").textContent = text || "";
}

/* ------------------------------------------------------------ the page */

function open(section) {
  for (const id of ["intro", "rating", "done"]) find(id).hidden = id !== section;
}

function show() {
  for (const button of undoButtons) button.disabled = state.votes === 0;
  if (state.number === null) {
    stop();
    open("done");
    return;
  }
  open("rating");
  find("place").textContent = `Pair ${state.number + 1} of ${state.pairs}`;
  find("progress").max = state.of;
  find("progress").value = state.votes;
  find("caption").textContent = state.caption;
  const asking = openStep();
  for (const step of steps) {
    const given = state.answers[step.dataset.question];
    step.classList.toggle("answered", Boolean(given));
    step.classList.toggle("asking", step === asking);
    step.querySelector(".given").textContent = given ? SAID[given] : "";
  }
  find("title").textContent = asking.querySelector(".name").textContent;
  find("asks").textContent = asking.dataset.asks;
  for (const button of choices) button.classList.remove("chosen");
  if (loaded !== state.number) load(state.number);
  enable();
}

function openStep() {
  return steps.find((step) => !state.answers[step.dataset.question]);
}

function enable() {
  for (const button of choices) button.disabled = loaded !== state.number;
}

function answer(choice) {
  if (!state || state.number === null || loaded !== state.number || find("rating").hidden) return;
  during(async () => {
    const question = openStep().dataset.question;
    const chosen = choices.find((button) => button.dataset.answer === choice);
    chosen.classList.add("chosen");
    const seen = new Promise((done) => setTimeout(done, SEEN_MS));
    state = await ask("POST", "votes", { number: state.number, question, answer: choice });
    await seen;
  });
}

function undo() {
  if (!state || state.votes === 0 || !find("intro").hidden) return;
  during(async () => {
    state = await ask("DELETE", "votes");
  });
}

/* ------------------------------------------------------------ two videos in step */

async function load(number) {
  stop();
  loaded = null;
  paused = false;
  showPause();
  const stage = find("stage");
  stage.classList.add("loading");
  for (const video of videos) {
    video.src = `${base}/${number}/${video.id}.mp4`;
    video.load();
  }
  try {
    // Phones load no more than they play: playing both for a moment loads them.
    await Promise.all(videos.map((video) => video.play()));
  } catch (error) {
    if (state.number !== number || error.name === "AbortError") return;
    if (error.name === "NotAllowedError") {
      find("play").hidden = false; // a phone that saves power plays only what was touched
    } else {
      tell("These videos cannot be played here. Reload the page, or open it in another browser.");
    }
    return;
  }
  if (state.number !== number) return;
  const [left] = videos;
  stage.style.setProperty("--aspect", `${left.videoWidth} / ${left.videoHeight}`);
  for (const video of videos) video.classList.toggle("tiny", video.videoWidth < TINY_PIXELS);
  find("play").hidden = true;
  stage.classList.remove("loading");
  loaded = number;
  start();
  enable();
}

function start() {
  clearTimeout(rest);
  for (const video of videos) video.pause();
  for (const video of videos) video.currentTime = 0;
  if (!paused) for (const video of videos) video.play().catch(() => {});
}

function stop() {
  clearTimeout(rest);
  for (const video of videos) video.pause();
}

function nextRound() {
  if (loaded === null || paused || !videos.every((video) => video.ended)) return;
  clearTimeout(rest);
  rest = setTimeout(start, REST_MS);
}

function togglePause() {
  if (loaded === null) return;
  paused = !paused;
  showPause();
  if (paused) stop();
  else if (videos.some((video) => video.ended)) start();
  else for (const video of videos) video.play().catch(() => {});
}

function showPause() {
  find("pause").querySelector("span").textContent = paused ? "Play" : "Pause";
}

/* ------------------------------------------------------------ hands */

for (const button of choices) button.addEventListener("click", () => answer(button.dataset.answer));
for (const button of undoButtons) button.addEventListener("click", undo);
for (const video of videos) {
  video.addEventListener("ended", nextRound);
  video.addEventListener("click", togglePause);
}
find("pause").addEventListener("click", togglePause);
find("play").addEventListener("click", () => load(state.number));
find("begin").addEventListener("click", show);

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!find("intro").hidden) return;
  const key = event.key.toLowerCase();
  if (event.key in KEYS) answer(KEYS[event.key]);
  else if (key === "z" || key === "backspace") undo();
  else if (key === "p") togglePause();
  else return;
  event.preventDefault();
});

(async () => {
  try {
    state = await ask("GET", "state");
  } catch {
    tell("The study cannot be reached. Reload the page in a moment.");
    return;
  }
  if (state.votes === 0 && state.number !== null) {
    open("intro");
    find("begin").focus();
  } else {
    show();
  }
})();
