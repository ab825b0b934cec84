// JSON as the server has it. `JSON.parse` would round numbers of more than 17 digits and turn 1.10 into 1.1; the registry
// keeps both as they were written.

/** A number, as it was written. */
export class Exact {
  constructor(text) { this.text = text; }
  valueOf() { return Number(this.text); }
}

const TOKEN = /[\s]*(?:([{}[\],:])|("(?:[^"\\]|\\.)*")|(true|false|null)|(-?[0-9][0-9.eE+-]*))/gy;

/** Reads JSON that a server has written: objects are Maps, numbers are Exact. */
export function parse(text) {
  TOKEN.lastIndex = 0;
  let token = next();
  function next() {
    const match = TOKEN.exec(text);
    return match && { mark: match[1], string: match[2], word: match[3], number: match[4] };
  }
  function value() {
    const here = token;
    if (!here) throw new SyntaxError("JSON ends early");
    token = next();
    if (here.string !== undefined) return JSON.parse(here.string);
    if (here.number !== undefined) return new Exact(here.number);
    if (here.word !== undefined) return JSON.parse(here.word);
    return here.mark === "{" ? members() : items();
  }
  function members() {
    const map = new Map();
    while (token.mark !== "}") {
      const name = value();
      token = next();
      map.set(name, value());
      if (token.mark === ",") token = next();
    }
    token = next();
    return map;
  }
  function items() {
    const list = [];
    while (token.mark !== "]") {
      list.push(value());
      if (token.mark === ",") token = next();
    }
    token = next();
    return list;
  }
  return value();
}

/** Writes it for people, two blanks a level; or without blanks. */
export function write(value, pretty = true, indent = "") {
  if (value instanceof Exact) return value.text;
  const entries = value instanceof Map
    ? [...value].map(([name, member]) => [`${JSON.stringify(name)}:${pretty ? " " : ""}`, member])
    : Array.isArray(value) ? value.map((item) => ["", item]) : null;
  if (!entries) return JSON.stringify(value);
  const [open, close] = value instanceof Map ? "{}" : "[]";
  if (entries.length === 0) return open + close;
  const inner = `${indent}  `;
  const parts = entries.map(([name, member]) => `${pretty ? inner : ""}${name}${write(member, pretty, inner)}`);
  return pretty ? `${open}\n${parts.join(",\n")}\n${indent}${close}` : open + parts.join(",") + close;
}
