// Times as people say them. "Now" is the server's: the clock of this machine may be wrong by hours.

import { h } from "./dom.js";

let ahead = 0;

/** Takes note of the server's clock, as an answer's `Date` has it (whole seconds). */
export function noteServerTime(date) {
  const server = Date.parse(date);
  if (Number.isNaN(server)) return;
  const seen = server - Date.now();
  // Less than a second more or less is how the field is rounded.
  if (Math.abs(seen - ahead) > 1500) ahead = seen;
}

/** The server's time, in milliseconds. */
export function now() {
  return Date.now() + ahead;
}

function relative(then) {
  const seconds = Math.round((now() - then) / 1000);
  const size = Math.abs(seconds);
  if (size < 2) return "just now";
  const [count, unit] = size < 90 ? [size, "s"] : size < 5400 ? [Math.round(size / 60), "min"]
    : size < 129600 ? [Math.round(size / 3600), "h"] : [Math.round(size / 86400), "d"];
  return seconds < 0 ? `in ${count} ${unit}` : `${count} ${unit} ago`;
}

/** An instant, as it ticks; its exact time is told when asked. Foreign rows have times such as `infinity`. */
export function ago(text) {
  if (text === null || text === undefined) return h("span", { class: "muted" }, "never");
  const then = Date.parse(text);
  if (Number.isNaN(then)) return h("span", {}, String(text));
  return h("time", { datetime: text, title: text, "data-then": then }, relative(then));
}

function tick() {
  for (const element of document.querySelectorAll("time[data-then]")) {
    const text = relative(Number(element.dataset.then));
    if (element.textContent !== text) element.textContent = text;
  }
}

setInterval(tick, 1000);
