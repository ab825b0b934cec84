// The API of the server that this page is from, asked with the key of whoever sits here.

import { noteServerTime } from "./time.js";

const KEY = "onex-registry-key";
/** The storage of the tab. Browsers that are told to keep nothing have none: the key is in memory then. */
const storage = (() => {
  try {
    return sessionStorage;
  } catch {
    return { getItem: () => null, setItem() {}, removeItem() {} };
  }
})();
let key = storage.getItem(KEY);

/** Whether a key is shown. */
export const hasKey = () => key !== null;

/** Takes a key: for this page only, or until the tab is closed. */
export function useKey(secret, keep) {
  key = secret;
  if (keep) storage.setItem(KEY, secret);
  else storage.removeItem(KEY);
}

export function forgetKey() {
  key = null;
  storage.removeItem(KEY);
}

/** An answer that is a problem, or none at all (status 0). */
export class ApiError extends Error {
  constructor(status, body) {
    super(body.detail ?? body.title ?? `The server answered ${status}.`);
    this.status = status;
    this.title = body.title;
    this.errors = body.errors;
    this.correlation = body.correlation_id;
  }
}

/** Asks, and gives the response if it is a good one. */
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const shown = key;
  if (shown !== null) headers.set("Authorization", `Bearer ${shown}`);
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { title: "The server can't be reached", detail: "No answer came. It may be stopped, or the network is down." });
  }
  noteServerTime(response.headers.get("Date"));
  if (response.ok) return response;
  let body = {};
  try {
    body = await response.json();
  } catch {
    // Something in between has answered, and speaks no JSON.
  }
  // Not that of another, who has signed in meanwhile.
  if (response.status === 401 && shown === key) document.dispatchEvent(new CustomEvent("key-needed", { detail: hasKey() }));
  throw new ApiError(response.status, body ?? {});
}

/** Asks for JSON. */
export async function read(path, options) {
  return (await ask(path, options)).json();
}

/** A path segment. Clients swallow `.` and `..`; for those there is none. */
export function segment(id) {
  return encodeURIComponent(id).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
