// One node: all that is known of it, what happened to it, and what can be done with it.

import { ask, hasKey, segment } from "./api.js";
import { badge, copyButton, escaped, h, loading, maybeLink, problem, renew, stranger, visible } from "./dom.js";
import { Exact, parse, write } from "./json.js";
import { kind } from "./overview.js";
import { ago } from "./time.js";
import { Trail } from "./trail.js";

const TIMES = ["last_heartbeat", "registered_at", "updated_at"];
const COLUMNS = ["capabilities", "endpoints", "metadata"];
/** So many events are shown at first, and so many more each time that older ones are asked for. */
const EVENTS = 100;
/** Browsers take these out of a path, however they are written. */
const UNREACHABLE = [".", ".."];

export function node(main, state) {
  const id = state.get("node_id") ?? "";
  const heading = h("h1", {}, stranger(id));
  const record = h("div", {}, loading("the node"));
  const timeline = h("section", { class: "card", "aria-labelledby": "timeline" }, h("h2", { id: "timeline" }, "Events"), loading("events"));
  const trail = new Trail(id);
  let wanted = EVENTS;
  const actions = h("section", { class: "card", "aria-labelledby": "actions" });
  main.replaceChildren(h("p", { class: "muted" }, h("a", { href: "#/nodes" }, "Nodes"), " /"), heading, record, timeline, actions);
  let shown = "";
  let present = null;

  async function refresh(signal) {
    // By its id as a parameter: not every id that a foreign writer has left can stand in a path.
    await Promise.all([readNode(signal), readEvents(signal)]);
  }

  async function readNode(signal) {
    try {
      const response = await ask(`v1/nodes?${new URLSearchParams({ node_id: id, limit: 1 })}`, { signal });
      const text = await response.text();
      if (signal.aborted) return;
      const [found] = parse(text).get("nodes");
      const now = found ? write(found, false) : "gone";
      if (now === shown) return;
      const was = present;
      [shown, present] = [now, found ?? null];
      renew(record, ...(found ? fields(found, opened(record)) : [gone(id)]));
      // What is about to be confirmed is not taken away by a heartbeat.
      if (!found || was?.get("revision").text !== found.get("revision").text) renew(actions, ...(found ? deeds(found) : []));
      actions.hidden = !found;
    } catch (error) {
      if (signal.aborted) return;
      shown = "";
      record.replaceChildren(problem(error, () => refresh(signal)));
    }
  }

  async function readEvents(signal) {
    try {
      await trail.read(signal);
      if (!signal.aborted) showEvents();
    } catch (error) {
      if (!signal.aborted) timeline.replaceChildren(h("h2", { id: "timeline" }, "Events"), h("p", { class: "wrong" }, `Not known: ${visible(error.message)}`));
      toldEvents = "";
    }
  }

  let toldEvents = "";
  function showEvents() {
    const what = JSON.stringify([trail.events.length, trail.events.at(-1)?.revision, trail.complete, trail.cut, wanted]);
    if (what === toldEvents) return;
    toldEvents = what;
    const older = () => { wanted += EVENTS; showEvents(); };
    renew(timeline, h("h2", { id: "timeline" }, "Events"), ...events(trail, wanted, older));
  }

  return { refresh, every: 5000, title: visible(id) };
}

function gone(id) {
  return h("div", { class: "card empty", role: "status" }, h("h2", {}, "There is no such node"),
    h("p", {}, "Nothing is registered as ", stranger(id), ", or not any more."), h("p", {}, h("a", { href: "#/nodes" }, "All nodes")));
}

const opened = (record) => new Set([...record.querySelectorAll("details[open]")].map((element) => element.dataset.column));

function fields(found, open) {
  const rows = [...found].filter(([name]) => !COLUMNS.includes(name)).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, field(name, value))]);
  const endpoints = found.get("endpoints");
  const list = endpoints instanceof Map ? [...endpoints] : [];
  return [
    h("section", { class: "card" }, h("h2", {}, "Record"), h("dl", {}, rows)),
    h("section", { class: "card" }, h("h2", {}, "Endpoints"),
      list.length === 0 ? h("p", { class: "muted" }, "None.") : h("dl", {}, list.slice(0, 100).flatMap(([name, url]) => [h("dt", {}, stranger(name)), h("dd", {}, typeof url === "string" ? maybeLink(url) : stranger(write(url, false)))])),
      list.length > 100 ? h("p", { class: "muted" }, `and ${list.length - 100} more, in the JSON`) : null),
    ...COLUMNS.map((name) => json(name, found.get(name), open)),
  ];
}

function field(name, value) {
  if (name === "status") return badge(value);
  if (TIMES.includes(name)) return value === null ? ago(null) : [ago(value), " ", h("span", { class: "muted" }, visible(value))];
  if (value === null) return h("span", { class: "muted" }, name === "ttl_seconds" ? "the server's default" : "none");
  if (value instanceof Exact) return value.text;
  if (name === "health_endpoint") return maybeLink(value);
  return typeof value === "string" ? stranger(value) : visible(write(value, false));
}

function json(name, value, open) {
  const text = write(value);
  const pre = h("pre", { tabindex: "0", "aria-label": `${name} as JSON` }, visible(text).replaceAll("⟨U+000A⟩", "\n"));
  const size = new Blob([write(value, false)]).size;
  const isOpen = open.has(name) || (name === "capabilities" && size < 4096);
  return h("details", { class: "card json", "data-column": name, open: isOpen },
    h("summary", {}, name, h("span", { class: "muted" }, ` ${size.toLocaleString("en")} bytes`)), copyButton(`Copy ${name}`, text, () => pre), pre);
}

function events(trail, wanted, older) {
  const list = trail.events.slice(-wanted).reverse();
  const left = trail.events.length - list.length;
  const items = list.map((event) => h("li", {}, kind(event.kind),
    h("span", {}, ago(event.occurred_at), " by ", stranger(event.actor)),
    event.changed.length ? h("span", { class: "muted" }, visible(event.changed.join(", "))) : null,
    h("span", { class: "muted" }, `revision ${event.revision}`)));
  return [
    trail.complete ? null : h("p", { class: "muted", role: "status" }, "There are newer ones, which are being read."),
    list.length === 0 ? h("p", { class: "muted" }, "None is kept.") : h("ol", { class: "events", tabindex: "0", "aria-labelledby": "timeline" }, items),
    left > 0 ? h("button", { type: "button", id: "older", onclick: older }, `Older (${left.toLocaleString("en")} more)`) : null,
    trail.cut && left === 0 ? h("p", { class: "muted" }, "Still older ones are kept, but not shown here.") : null,
  ].filter(Boolean);
}

/** A word for a shell: nothing in it means anything to it. */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The commands that do with the node what can be done. */
function commands(found) {
  const id = found.get("node_id");
  const url = (rest) => quoted(new URL(`v1/nodes/${segment(id)}${rest}`, document.baseURI).href);
  const key = hasKey() ? ' -H "Authorization: Bearer $SECRET"' : "";
  const body = new Map([...found].filter(([name]) => ["node_type", "node_version", "capabilities", "endpoints", "metadata", "health_endpoint", "ttl_seconds"].includes(name)));
  const sent = "-H 'Content-Type: application/json'";
  return [
    ["Read it", `curl${key} ${url("")}`],
    ["Send a heartbeat", `curl${key} -X POST ${url("/heartbeat")}`],
    ["Take it out of service", `curl${key} -X PUT ${url("/maintenance")} ${sent} -d '{"reason": "disk swap"}'`],
    ["Put it back", `curl${key} -X DELETE ${url("/maintenance")}`],
    ["Register it again, as it is", `curl${key} -X PUT ${url("")} ${sent} --data-binary ${quoted(escaped(write(body, false)))}`],
    ["Deregister it", `curl${key} -X DELETE ${url("")}`],
  ];
}

function deeds(found) {
  const id = found.get("node_id");
  const lines = UNREACHABLE.includes(id) ? [h("p", { class: "muted" }, "This id can't stand in a path.")]
    : commands(found).map(([what, command]) => {
      const pre = h("pre", { tabindex: "0", class: "command", "aria-label": what }, visible(command));
      return h("div", { class: "deed" }, h("h3", {}, what), pre, copyButton("Copy", command, () => pre));
    });
  return [h("h2", { id: "actions" }, "Actions"), deregistration(found), ...lines];
}

/** Ids that the present key was told it may not change. */
const forbidden = new Set();
document.addEventListener("key-needed", () => forbidden.clear());

const NEEDED = "It needs a key with the role write, or admin, that covers this node.";

function deregistration(found) {
  const id = found.get("node_id");
  if (forbidden.has(id)) return h("p", { class: "muted", id: "may-not" }, `Your key may not deregister this node. ${NEEDED}`);
  const said = h("p", { class: "wrong", role: "alert" });
  const now = h("button", { type: "button", class: "danger", id: "deregister-now", onclick: go }, "Deregister");
  const dialog = h("dialog", { "aria-labelledby": "sure" }, h("h2", { id: "sure" }, "Deregister this node?"),
    h("p", {}, stranger(id)), h("p", {}, "It is not found any more from then on. If it is alive, it may register again."), said,
    h("div", { class: "row" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), now));
  const part = h("div", {}, h("button", { type: "button", class: "danger", id: "deregister", onclick: () => dialog.showModal(), "aria-describedby": hasKey() ? "needed" : null }, "Deregister…"),
    hasKey() ? h("p", { class: "muted", id: "needed" }, NEEDED) : null, dialog);
  async function go() {
    said.textContent = "";
    now.disabled = true;
    try {
      await deregister(id, found.get("revision").text);
      dialog.close();
      location.hash = "#/nodes";
    } catch (error) {
      now.disabled = error.status === 403;
      said.textContent = error.status === 403 ? `Your key may not do that. ${NEEDED}`
        : error.status === 412 ? "The node has changed meanwhile. Close this, and look again." : visible(error.message);
      if (error.status !== 403) return;
      forbidden.add(id);
      dialog.addEventListener("close", () => part.replaceWith(deregistration(found)));
    }
  }
  return part;
}

async function deregister(id, revision) {
  if (UNREACHABLE.includes(id)) {
    await ask("v1/batch/deregister", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ node_ids: [id] }) });
  } else {
    // Only what was looked at: the tag's first part is all that is compared.
    await ask(`v1/nodes/${segment(id)}`, { method: "DELETE", headers: { "If-Match": `"${revision}.0"` } });
  }
}
