// The fleet at a glance.

import { read } from "./api.js";
import { bars, line } from "./chart.js";
import { badge, h, loading, nodeLink, problem, renew, visible } from "./dom.js";
import { changes, counts, HOUR } from "./history.js";
import { ago, now } from "./time.js";

export const STATUSES = ["healthy", "stale", "unknown", "maintenance"];
const SHOWN_VERSIONS = 12;

/** The page; `refresh` reads anew what it shows. */
export function overview(main) {
  const title = h("h1", {}, "Overview");
  const body = h("div", {}, loading("the fleet"));
  main.replaceChildren(title, body);
  let shown = "";
  async function refresh(signal) {
    try {
      const [summary, past] = await Promise.all([read("v1/summary", { signal }), counts(signal)]);
      if (signal.aborted) return;
      // To read a busy hour takes a while: how the fleet is is not held up by what it was.
      if (shown === "") renew(body, ...content(summary, past, { pending: true }));
      let trail;
      try {
        trail = await changes(summary.revision);
      } catch (error) {
        // The audit trail is in the database alone. The fleet is shown without it.
        trail = { error };
      }
      if (signal.aborted) return;
      const minute = Math.floor(now() / 60_000);
      const what = JSON.stringify([summary, past, past.error?.message, trail.events?.length, trail.events?.at(-1)?.revision, trail.error?.message, minute]);
      // What somebody reads, selects or has the focus on is not made anew for nothing.
      if (what !== shown) renew(body, ...content(summary, past, trail));
      shown = what;
    } catch (error) {
      if (signal.aborted) return;
      shown = "";
      body.replaceChildren(problem(error, () => refresh(signal)));
    }
  }
  return { refresh, every: 5000 };
}

function content(summary, past, trail) {
  if (summary.nodes === 0) return [empty(), charts(summary, past, trail)];
  return [tiles(summary), charts(summary, past, trail), h("div", { class: "columns tables" }, byType(summary), byVersion(summary)), recent(trail)];
}

function empty() {
  return h("section", { class: "card empty" }, h("h2", {}, "No nodes yet"),
    h("p", {}, "Register the first one:"),
    h("pre", { tabindex: "0" }, `curl -X PUT ${new URL("v1/nodes/my-node", document.baseURI)} \\\n  -H 'Content-Type: application/json' -d '{"node_type": "effect"}'`));
}

const filtered = (filters) => `#/nodes?${new URLSearchParams(filters)}`;

function tiles(summary) {
  const tile = (number, label, href, status) => h("a", { class: "tile", href, "data-status": status }, h("strong", {}, number.toLocaleString("en")), h("span", {}, label));
  return h("div", { class: "tiles" }, tile(summary.nodes, "nodes", "#/nodes"),
    STATUSES.map((status) => tile(summary.by_status[status], status, filtered({ status }), status)));
}

function charts(summary, past, trail) {
  const samples = past.samples.map((sample) => ({ at: Date.parse(sample.at), healthy: sample.by_status.healthy }));
  samples.push({ at: now(), healthy: summary.by_status.healthy });
  const part = trail.knownFrom ? h("p", { class: "muted" }, "More has happened than is shown: it begins ", ago(new Date(trail.knownFrom).toISOString()), ".") : null;
  return h("div", { class: "columns" },
    h("section", { class: "card" }, h("h2", {}, "Changes per minute"),
      trail.pending ? loading("changes") : trail.error ? h("p", { class: "wrong" }, `Not known: ${visible(trail.error.message)}`) : [bars(trail.events), part]),
    h("section", { class: "card" }, h("h2", {}, "Healthy nodes"), line(samples), counted(past)));
}

/** What the chart of healthy nodes is made of. */
function counted(past) {
  if (past.error) return h("p", { class: "wrong" }, `Only the present is known: ${visible(past.error.message)}`);
  if (past.since === null) return h("p", { class: "muted" }, "This replica has not counted yet.");
  if (now() - Date.parse(past.since) > HOUR) return h("p", { class: "muted" }, "Counted once a minute by the replica that answers.");
  return h("p", { class: "muted" }, "Counted once a minute by the replica that answers, which began ", ago(past.since), ". What was before is not known.");
}

function byType(summary) {
  const counts = new Map();
  for (const { node_type, status, nodes } of summary.by_type_and_status) {
    if (!counts.has(node_type)) counts.set(node_type, {});
    counts.get(node_type)[status] = nodes;
  }
  const rows = summary.by_type.slice(0, 20).map(({ node_type, nodes }) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: filtered({ node_type }) }, visible(node_type))), h("td", { class: "number", "data-label": "nodes" }, String(nodes)),
    STATUSES.map((status) => h("td", { class: "number", "data-label": status }, number(counts.get(node_type)?.[status], { node_type, status })))));
  const left = summary.by_type.length - rows.length;
  return h("section", { class: "card" }, h("h2", {}, "By type and status"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Nodes by type and status" },
    h("table", { class: "by-type" }, h("thead", {}, h("tr", {}, ["type", "nodes", ...STATUSES].map((name, n) => h("th", { scope: "col", class: n ? "number" : null }, name)))), h("tbody", {}, rows))),
  left > 0 ? h("p", { class: "muted" }, `and ${left} more types`) : null);
}

function number(count, filters) {
  return count ? h("a", { href: filtered(filters) }, String(count)) : h("span", { class: "muted" }, "0");
}

function byVersion(summary) {
  const all = summary.by_type_and_version;
  const rows = all.slice(0, SHOWN_VERSIONS).map(({ node_type, node_version, nodes }) => h("tr", {},
    h("th", { scope: "row" }, h("a", { href: filtered({ node_type, node_version }) }, visible(node_type), " ", visible(node_version))),
    h("td", { class: "number" }, String(nodes))));
  return h("section", { class: "card" }, h("h2", {}, "By version"),
    h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "type and version"), h("th", { scope: "col", class: "number" }, "nodes"))), h("tbody", {}, rows)),
    all.length > rows.length ? h("p", { class: "muted" }, `and ${all.length - rows.length} more`) : null);
}

function recent(trail) {
  if (trail.error || trail.pending) return "";
  const events = trail.events.slice(-10).reverse();
  return h("section", { class: "card" }, h("h2", {}, "Latest changes"),
    events.length === 0 ? h("p", { class: "muted" }, "Nothing has changed in the last hour.")
      : h("ul", { class: "events" }, events.map((event) => h("li", {}, kind(event.kind), nodeLink(event.node_id), h("span", { class: "muted" }, ago(event.occurred_at))))));
}

const LEADS_TO = new Map([["deregistered", "stale"], ["expired", "stale"], ["registered", "new"], ["updated", "new"]]);

/** What happened, in the colour of the status that it leads to. */
export function kind(name) {
  const element = badge(visible(name));
  element.dataset.status = LEADS_TO.get(name) ?? name;
  return element;
}
