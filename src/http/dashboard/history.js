// The last hour, as far as it can be known. Changes are in the audit trail, which is read on from where it was read to. How
// many nodes there were, the replica that answers has counted.

import { read } from "./api.js";
import { now } from "./time.js";

export const HOUR = 3_600_000;
const PAGE = 1000;
/** So many events are read at most; of a busier hour only the last ones are known. */
const MOST = 10_000;

/** The events of the last hour that are known, ascending. */
let events = [];
let readTo = null;
/** Events before this instant are not known. */
let knownFrom = 0;
/** The reading under way: two at once would both add what they find. */
let reading = null;

/** Who sits here, by a number: what was asked for by another is thrown away. */
let user = 0;

/** Begins anew, for somebody else. */
export function forget() {
  user += 1;
  events = [];
  readTo = null;
  reading = null;
}

/** What the replica has counted; `error` if that can't be had. */
export async function counts(signal) {
  try {
    return await read("v1/summary/history", { signal });
  } catch (error) {
    return { error, since: null, samples: [] };
  }
}

/** Reads what has happened since the last time. `newest` is the newest revision. */
export function changes(newest) {
  if (reading === null) {
    const mine = readOn(newest, user).finally(() => {
      if (reading === mine) reading = null;
    });
    reading = mine;
  }
  return reading;
}

async function readOn(newest, reader) {
  const stillHere = (found) => {
    if (reader !== user) throw new DOMException("Signed out", "AbortError");
    return found;
  };
  try {
    // A tab that has slept for long begins anew: of all that happened, only the last is shown.
    if (readTo !== null && newest - readTo > MOST) readTo = null;
    if (readTo === null) {
      events = [];
      readTo = stillHere(await start(newest));
    }
    for (;;) {
      const page = stillHere(await read(`v1/events?after=${readTo}&limit=${PAGE}`));
      events.push(...page.events);
      readTo = page.next_after;
      if (page.events.length < PAGE) break;
    }
  } catch (error) {
    stillHere();
    readTo = null;
    if (error.status !== 410) throw error;
  }
  const since = now() - HOUR;
  events = events.filter((event) => Date.parse(event.occurred_at) > since);
  if (events.length > MOST) {
    events = events.slice(-MOST);
    knownFrom = Date.parse(events[0].occurred_at);
  }
  if (knownFrom < since) knownFrom = 0;
  return { events, knownFrom };
}

/** A revision after which the last hour lies. Revisions grow with time: it is looked for by halves. */
async function start(newest) {
  let [low, high] = [Math.max(0, newest - MOST), newest];
  const since = now() - HOUR;
  const first = await timeAfter(low);
  if (first === null || first > since) {
    knownFrom = low > 0 && first !== null ? first : 0;
    return low > 0 || first !== null ? low : newest;
  }
  knownFrom = 0;
  while (high - low > 50) {
    const middle = Math.floor((low + high) / 2);
    const time = await timeAfter(middle);
    if (time !== null && time > since) high = middle;
    else low = middle;
  }
  // Events are kept for less than an hour.
  return (await timeAfter(low)) === 0 ? high : low;
}

/** When the first event after a revision happened; null if there is none, 0 if it is not kept. */
async function timeAfter(revision) {
  try {
    const page = await read(`v1/events?after=${revision}&limit=1`);
    return page.events.length ? Date.parse(page.events[0].occurred_at) : null;
  } catch (error) {
    if (error.status === 410) return 0;
    throw error;
  }
}
