// Elements and texts. Whatever comes from nodes gets into the page as text, here, and never as HTML.

// What a reader can't see, or what turns the direction of the text around it: controls, formats, separators. The joiner
// within an emoji is left alone.
const UNSEEN = /(?<![\p{Extended_Pictographic}\u{FE0F}\p{Emoji_Modifier}])\u200D|[\p{Cc}\p{Zl}\p{Zp}\p{Co}\p{Cs}]|(?!\u200D)\p{Cf}/gu;

/** An element with attributes and children. `on…` are listeners; null, false and undefined are left out. */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same, for drawings. */
export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A text of a stranger, with what can't be seen in it made visible. */
export function visible(text) {
  return String(text).replace(UNSEEN, (character) => {
    const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    return `⟨U+${code}⟩`;
  });
}

/** JSON with the same written as escapes: it means what it meant, and what is copied is what was seen. */
export function escaped(json) {
  const escape = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return json.replace(UNSEEN, (character) => character.split("").map(escape).join(""));
}

/** A text of a stranger as a link, if it is one that a browser may follow: `javascript:` is not. */
export function maybeLink(text) {
  let url;
  try {
    url = new URL(text);
  } catch {
    return stranger(text);
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return stranger(text);
  return h("a", { href: url.href, rel: "noopener noreferrer external", target: "_blank" }, stranger(text));
}

/** The same as an element of its own, so that its direction is its own business. */
export function stranger(text) {
  return h("bdi", {}, text === "" ? "(empty)" : visible(text));
}

/** How a status looks: never by its colour alone. */
export function badge(status) {
  return h("span", { class: "badge", "data-status": status }, status);
}

const nodeLinkOf = (id) => `#/node?${new URLSearchParams({ node_id: id })}`;

/** A link to the page of a node. */
export function nodeLink(id) {
  return h("a", { href: nodeLinkOf(id), class: "id" }, stranger(id));
}

/** What is shown instead of what should be there. */
export function problem(error, again) {
  const list = (error.errors ?? []).map((one) =>
    h("li", {}, h("code", {}, one.parameter ?? one.pointer ?? one.header ?? ""), " ", visible(one.detail)));
  return h("div", { class: "problem", role: "alert" },
    h("h2", {}, visible(error.title ?? "Something went wrong")),
    h("p", {}, visible(error.message)),
    list.length ? h("ul", {}, list) : null,
    error.correlation ? h("p", { class: "muted" }, "Correlation id: ", h("code", {}, visible(error.correlation))) : null,
    again ? h("button", { type: "button", onclick: again }, "Try again") : null);
}

/** Puts other children in. What had the focus or was scrolled still is, if there is something in its place. */
export function renew(parent, ...children) {
  const scrolled = [...parent.querySelectorAll(".events, .scroll, pre")].filter((element) => element.scrollTop > 0 || element.scrollLeft > 0)
    .map((element) => [way(parent, element), element.scrollTop, element.scrollLeft]);
  const focused = parent.contains(document.activeElement) && parent !== document.activeElement ? document.activeElement : null;
  const where = focused && way(parent, focused);
  parent.replaceChildren(...children);
  for (const [steps, top, left] of scrolled) at(parent, steps)?.scrollTo(left, top);
  const same = where && at(parent, where);
  if (same?.tagName === focused?.tagName) same?.focus({ preventScroll: true });
}

/** The way down to an element, as numbers of children; and where such a way leads to. */
function way(from, to) {
  const steps = [];
  for (let here = to; here !== from; here = here.parentNode) steps.unshift([...here.parentNode.children].indexOf(here));
  return steps;
}

const at = (from, steps) => steps.reduce((here, step) => here?.children[step], from);

export function loading(what) {
  return h("p", { class: "loading", role: "status" }, `Loading ${what}…`);
}

/** Copies a text. Browsers refuse that on pages without TLS: then it is selected, to be copied by hand. */
export function copyButton(label, text, shown) {
  const button = h("button", { type: "button", class: "small", onclick: copy }, label);
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(shown());
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = label; }, 2000);
  }
  return button;
}
