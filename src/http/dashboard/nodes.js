// The nodes, page by page: the server filters and pages, so that a large fleet is as quick as a small one. What is asked for
// is in the address of the page, under the names that the API has.

import { read } from "./api.js";
import { badge, h, loading, nodeLink, problem, visible } from "./dom.js";
import { STATUSES } from "./overview.js";
import { ago } from "./time.js";

const TYPES = ["effect", "compute", "reducer", "orchestrator"];
const NAMES = ["node_id_prefix", "node_type", "status", "node_version", "version_req", "capabilities", "metadata", "node_id"];
const LIMIT = 50;
const TYPING = 300;
const COLUMNS = ["id", "type", "version", "status", "last heartbeat", "registered"];

/** The pages that were left by "Next", to go back to. */
let before = [];

export function nodes(main, state) {
  const filters = new URLSearchParams([...state].filter(([name, value]) => NAMES.includes(name) && value !== ""));
  const cursor = state.get("cursor");
  if (!cursor) before = [];
  const rows = new Map();
  const tbody = h("tbody");
  const table = h("table", { class: "nodes" }, h("caption", { class: "unseen" }, "Nodes, in the order of their ids"),
    h("thead", {}, h("tr", {}, COLUMNS.map((name) => h("th", { scope: "col" }, name)))), tbody);
  const wrap = h("div", { class: "scroll" }, table);
  const found = h("p", { class: "muted", id: "found", role: "status" });
  const pager = h("nav", { class: "pager", "aria-label": "Pages of the table" });
  const body = h("div", {}, loading("nodes"));
  let shown = false;
  let tag = null;

  async function refresh(signal) {
    const query = new URLSearchParams(filters);
    query.set("limit", LIMIT);
    if (cursor) query.set("cursor", cursor);
    try {
      const page = await read(`v1/nodes?${query}`, { signal });
      if (signal.aborted) return;
      update(page);
      if (!shown) body.replaceChildren(wrap, pager);
      shown = true;
    } catch (error) {
      if (signal.aborted) return;
      shown = false;
      body.replaceChildren(problem(error, () => refresh(signal)));
      found.textContent = "";
    }
  }

  function update(page) {
    const wanted = page.nodes.map((node) => {
      const text = JSON.stringify([node.status, node.revision, node.last_heartbeat, node.updated_at]);
      const known = rows.get(node.node_id);
      if (known?.text === text) return known.row;
      // The row stays, and with it what is focused or selected in it.
      const row = known ? known.row : h("tr", {}, h("th", { scope: "row" }, nodeLink(node.node_id)));
      while (row.children.length > 1) row.lastChild.remove();
      row.dataset.status = node.status;
      row.append(h("td", {}, visible(node.node_type)), h("td", {}, visible(node.node_version)), h("td", {}, badge(node.status)),
        h("td", {}, ago(node.last_heartbeat)), h("td", {}, ago(node.registered_at)));
      rows.set(node.node_id, { row, text });
      return row;
    });
    const ids = new Set(page.nodes.map((node) => node.node_id));
    for (const [id, { row }] of rows) {
      if (!ids.has(id)) {
        row.remove();
        rows.delete(id);
      }
    }
    wanted.forEach((row, index) => {
      if (tbody.children[index] !== row) tbody.insertBefore(row, tbody.children[index] ?? null);
    });
    const next = `${page.next_cursor}`;
    if (next !== tag) {
      tag = next;
      pager.replaceChildren(...pages(page.next_cursor));
    }
    const count = page.nodes.length;
    const words = count === 0 ? (cursor || filters.size > 0 ? "No node matches. Change or clear the filters." : "No nodes are registered yet.")
      : cursor || page.next_cursor ? `${count} nodes on this page` : `${count} ${count === 1 ? "node" : "nodes"}`;
    if (found.textContent !== words) found.textContent = words;
    wrap.hidden = count === 0;
  }

  function pages(next) {
    const link = (words, query, onclick, rel) => h("a", { class: "button", href: address(query), onclick, rel }, words);
    const out = [];
    if (cursor) out.push(link("First page", filters));
    if (before.length > 0) {
      const previous = new URLSearchParams(before.at(-1));
      out.push(link("Previous", previous, () => { before.pop(); }, "prev"));
    }
    if (next) {
      const query = new URLSearchParams(filters);
      query.set("cursor", next);
      const here = new URLSearchParams(filters);
      if (cursor) here.set("cursor", cursor);
      out.push(link("Next", query, () => { before.push(here.toString()); }, "next"));
    }
    return out;
  }

  main.replaceChildren(h("h1", {}, "Nodes"), form(filters), found, body);
  return { refresh, every: 10_000 };
}

const address = (query) => `#/nodes${query.size > 0 ? `?${query}` : ""}`;

function form(filters) {
  let timer = 0;
  const go = () => {
    clearTimeout(timer);
    // Whoever has left the page meanwhile is not brought back to it.
    if (!element.isConnected) return;
    const query = new URLSearchParams();
    for (const [name, value] of new FormData(element)) {
      const text = name === "capabilities" || name === "metadata" ? contained(name, value) : value;
      if (text !== "") query.append(name, text);
    }
    location.hash = address(query);
  };
  const typed = () => { clearTimeout(timer); timer = setTimeout(go, TYPING); };
  // A name that is repeated means any of its values: each has a field.
  const fields = (name, label, make) => {
    const values = filters.getAll(name);
    return (values.length ? values : [""]).map((value, n) => {
      const id = n === 0 ? name : `${name}-${n + 1}`;
      return h("label", { for: id }, n === 0 ? label : `or ${label}`, make(id, value));
    });
  };
  const text = (name, label, placeholder) => fields(name, label, (id, value) =>
    h("input", { id, name, type: "search", value: typedIn(name, value), placeholder, autocomplete: "off", spellcheck: "false", oninput: typed }));
  const choice = (name, label, options) => fields(name, label, (id, value) =>
    h("select", { id, name, onchange: go }, h("option", { value: "" }, "any"),
      [...new Set([...options, ...filters.getAll(name)])].map((option) => h("option", { value: option, selected: value === option }, visible(option)))));
  // What an address from elsewhere asks for beside the usual stays asked for.
  const unusual = (name, label, placeholder) => filters.has(name) ? text(name, label, placeholder) : null;
  const element = h("form", { class: "filters", role: "search", "aria-label": "Filters", onsubmit: (event) => { event.preventDefault(); go(); } },
    text("node_id_prefix", "id begins with", "node_"), choice("node_type", "type", TYPES), choice("status", "status", STATUSES),
    text("node_version", "version", "1.0.0"), text("version_req", "version range", ">=1.1, <2.0"),
    text("capabilities", "capability", "a name, or JSON"), unusual("metadata", "metadata", "JSON"), unusual("node_id", "id", ""),
    h("div", { class: "row" }, h("button", { type: "submit" }, "Search"), h("a", { class: "button", href: "#/nodes" }, "Clear")));
  return element;
}

/** A word stands for one of the node's capabilities; JSON is for those that say it in another way. */
function contained(name, value) {
  const text = value.trim();
  return text === "" || text.startsWith("{") || name === "metadata" ? text : JSON.stringify({ capabilities: [text] });
}

/** The other way round. */
function typedIn(name, text) {
  if (name !== "capabilities") return text;
  try {
    const asked = JSON.parse(text);
    const [word, ...more] = asked.capabilities;
    return more.length === 0 && JSON.stringify({ capabilities: [word] }) === text && !word.startsWith("{") ? word : text;
  } catch {
    return text;
  }
}
