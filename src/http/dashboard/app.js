// Which page is shown, and when it is read again. The address after the # says all of it, and is never sent anywhere.

import { forgetKey, hasKey, read } from "./api.js";
import { h, problem, visible } from "./dom.js";
import { forget } from "./history.js";
import { listen, stop } from "./live.js";
import { node } from "./node.js";
import { nodes } from "./nodes.js";
import { overview } from "./overview.js";
import { signIn } from "./sign_in.js";
import { ago } from "./time.js";

const PAGES = new Map([
  ["/", [overview, "Overview", "nav-overview"]],
  ["/nodes", [nodes, "Nodes", "nav-nodes"]],
  ["/node", [node, "Node", "nav-nodes"]],
]);
/** So long after a change the page is read again: many come together. */
const GATHER = 250;

const main = document.getElementById("main");
const alerts = document.getElementById("alerts");
const signOut = document.getElementById("sign-out");

let page = null;
let reading = new AbortController();
let busy = false;
let again = false;
let timer = 0;
let waits = false;
let signedOut = false;
let path = null;

function show() {
  if (signedOut) return;
  const [where, query] = location.hash.replace(/^#/, "").split(/\?(.*)/s);
  const [make, name, link] = PAGES.get(where || "/") ?? [unknown, "Not found", null];
  const focused = path === where && document.activeElement?.id;
  const caret = focused && document.activeElement.selectionStart;
  reading.abort();
  reading = new AbortController();
  [busy, again, waits] = [false, false, false];
  page = make(main, new URLSearchParams(query ?? ""));
  document.title = `${page.title ?? name} · onex-registry`;
  for (const one of document.querySelectorAll("nav a[id]")) {
    if (one.id === link) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  // Who types into a filter goes on typing; who follows a link is at the top of the new page.
  const same = focused && document.getElementById(focused);
  if (same && same !== main) {
    same.focus();
    if (typeof caret === "number") same.setSelectionRange(caret, caret);
  } else if (path !== null) main.focus();
  path = where;
  refresh();
}

function unknown() {
  main.replaceChildren(h("h1", {}, "There is no such page"), h("p", {}, h("a", { href: "#/" }, "Overview")));
  return { refresh: async () => {}, every: 60_000 };
}

/** Reads the page anew: one at a time, and once more if something happened meanwhile. */
async function refresh() {
  clearTimeout(timer);
  waits = false;
  if (signedOut) return;
  if (busy) {
    again = true;
    return;
  }
  busy = true;
  const { signal } = reading;
  try {
    await Promise.all([page.refresh(signal), health(signal)]);
  } finally {
    if (!signal.aborted) {
      busy = false;
      timer = setTimeout(refresh, again ? GATHER : page.every);
      waits = again;
      again = false;
    }
  }
}

function changed() {
  if (busy) again = true;
  else if (!waits) {
    waits = true;
    clearTimeout(timer);
    timer = setTimeout(refresh, GATHER);
  }
}

/** What is wrong with the server, above every page. */
async function health(signal) {
  let notes = [];
  try {
    const ready = await read("readyz", { signal });
    notes = ready.problems.map((text) => `The registry is degraded: ${text}${ready.stale_seconds === null ? "" : ` (for ${ready.stale_seconds} s)`}.`);
    const kept = ready.self_preservation;
    if (kept.active) notes.push(h("span", {}, "Self-preservation began ", ago(kept.since), `: much of the fleet turned stale at once. Nothing expires until it is well again. Healthy now: ${kept.healthy} of ${kept.taking_part} that take part.`));
  } catch (error) {
    if (signal.aborted) return;
    notes = [error.status === 0 ? "The server can't be reached. What is shown may be old." : `The registry is not ready: ${visible(error.message)}`];
  }
  const text = notes.map((note) => note.textContent ?? note).join("\n").replace(/\d+ (s|min|h|d) ago|\(for \d+ s\)/g, "");
  // Screen readers are told of what is new, and not of every second.
  if (alerts.dataset.text === text) return;
  alerts.dataset.text = text;
  alerts.replaceChildren(...notes.map((note) => h("p", { class: "notice" }, note)));
}

function begin() {
  signedOut = false;
  signOut.hidden = !hasKey();
  path = null;
  show();
  listen();
}

document.addEventListener("key-needed", (event) => {
  if (signedOut) return;
  signedOut = true;
  reading.abort();
  clearTimeout(timer);
  stop();
  forgetKey();
  forget();
  signOut.hidden = true;
  alerts.replaceChildren();
  delete alerts.dataset.text;
  document.title = "Sign in · onex-registry";
  signIn(main, event.detail, begin);
});
document.addEventListener("change", changed);
signOut.addEventListener("click", () => {
  forgetKey();
  document.dispatchEvent(new CustomEvent("key-needed", { detail: false }));
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
begin();

// For an error that nobody has thought of: better said than a page that stands still.
addEventListener("unhandledrejection", (event) => {
  if (event.reason?.name !== "AbortError" && !signedOut) alerts.replaceChildren(problem(event.reason));
});
