// Changes as they happen, from /v1/watch. EventSource can't show a key, so the stream is read with fetch.

import { ask } from "./api.js";

const LONGEST_PAUSE = 30_000;
const SILENCE = 40_000; // the server says something every 15 seconds
let controller = null;
let pause = 1000;
let last = null;
let generation = 0;

const label = document.getElementById("live");

function show(state, text) {
  label.dataset.state = state;
  if (label.textContent !== text) label.textContent = text;
}

function tell(change) {
  document.dispatchEvent(new CustomEvent("change", { detail: change }));
}

/** Begins to listen, anew if it did already. */
export async function listen() {
  stop();
  const mine = ++generation;
  while (mine === generation) {
    controller = new AbortController();
    const silence = { timer: 0 };
    try {
      await stream(silence);
    } catch (error) {
      if (mine !== generation) return;
      if (error.status === 401) return show("off", "Not signed in");
      // What comes next is not known any more: all that is shown is asked for again.
      if (error.status === 410 || error.status === 400) last = null;
    } finally {
      clearTimeout(silence.timer);
    }
    if (mine !== generation) return;
    show("away", "Reconnecting");
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

export function stop() {
  generation += 1;
  controller?.abort();
  show("connecting", "Connecting");
}

async function stream(silence) {
  const mine = controller;
  const heard = () => {
    clearTimeout(silence.timer);
    silence.timer = setTimeout(() => mine.abort(), SILENCE);
  };
  heard();
  const after = last === null ? "" : `?after=${last}`;
  const response = await ask(`v1/watch${after}`, { signal: mine.signal });
  pause = 1000;
  show("live", "Live");
  // Something may have happened since the page was read.
  tell(null);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const messages = (rest + value).split("\n\n");
    rest = messages.pop();
    messages.forEach(message);
  }
}

function message(text) {
  let name = "message";
  let data = "";
  for (const line of text.split("\n")) {
    if (line.startsWith("id: ")) last = line.slice(4);
    else if (line.startsWith("event: ")) name = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  if (name === "change" || name === "removed") tell(JSON.parse(data));
  else if (name === "closing" && JSON.parse(data).reason === "reset") last = null;
}
