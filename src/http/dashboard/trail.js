// The events of one node. The registry tells them from the oldest on: they are read to the end, and then on from there.

import { ask } from "./api.js";

const PAGE = 1000;
/** So many pages are read at a time; the next refresh goes on. */
const PAGES = 20;
/** So many events are remembered: of more, the newest. */
const KEPT = 20_000;

export class Trail {
  /** Ascending. */
  events = [];
  /** Whether the newest is among them. */
  complete = false;
  /** Whether there are older ones that were read and are not remembered. */
  cut = false;
  #id;
  #readTo = null;

  constructor(id) {
    this.#id = id;
  }

  async read(signal) {
    this.complete = false;
    for (let pages = 0; pages < PAGES && !this.complete; pages += 1) {
      await this.#next(signal);
    }
  }

  async #next(signal) {
    const query = new URLSearchParams({ node_id: this.#id, limit: PAGE });
    if (this.#readTo !== null) query.set("after", this.#readTo);
    const before = this.#readTo;
    let page;
    let newest;
    try {
      const response = await ask(`v1/events?${query}`, { signal });
      newest = Number(response.headers.get("Registry-Revision"));
      page = await response.json();
    } catch (error) {
      // What comes next was deleted, or the database was restored: all is read again.
      if (error.status === 410) [this.events, this.#readTo, this.cut] = [[], null, false];
      throw error;
    }
    this.events.push(...page.events);
    if (this.events.length > KEPT) {
      this.events.splice(0, this.events.length - KEPT);
      this.cut = true;
    }
    this.#readTo = page.next_after;
    // A page with few events is the last one only if it was looked through to the newest.
    this.complete = page.next_after >= newest || page.next_after === before;
  }
}
