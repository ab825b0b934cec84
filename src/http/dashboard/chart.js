// Two drawings of the last hour, without a library. What they show is also said in words, for who can't see them.

import { svg } from "./dom.js";
import { HOUR } from "./history.js";
import { now } from "./time.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [640, 160, 44, 20, 8];
const across = (share) => LEFT + share * (WIDTH - LEFT - 4);
const up = (share) => HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP);

/** A number for the top of the scale: 1, 2 or 5 and zeros. */
function rounded(number) {
  const power = 10 ** Math.floor(Math.log10(Math.max(1, number)));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= number) ?? 1;
}

function frame(title, top, ...content) {
  const line = (share) => svg("line", { class: "grid", x1: across(0), x2: across(1), y1: up(share), y2: up(share) });
  const text = (x, y, anchor, words) => svg("text", { x, y, "text-anchor": anchor }, words);
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title, class: "chart" },
    line(0), line(0.5), line(1),
    text(LEFT - 6, up(1) + 8, "end", String(top)), text(LEFT - 6, up(0), "end", "0"),
    text(across(0), HEIGHT - 4, "start", "60 min ago"), text(across(0.5), HEIGHT - 4, "middle", "30"),
    text(across(1), HEIGHT - 4, "end", "now"), ...content);
}

/** Changes per minute. */
export function bars(events) {
  const counts = new Array(60).fill(0);
  for (const event of events) {
    const minute = 59 - Math.floor((now() - Date.parse(event.occurred_at)) / 60_000);
    counts[Math.min(59, Math.max(0, minute))] += 1;
  }
  const top = rounded(Math.max(...counts));
  const shapes = counts.map((count, minute) => count === 0 ? null : svg("rect", {
    class: "bar", x: across(minute / 60) + 1, y: up(count / top), width: (across(1) - across(0)) / 60 - 2, height: up(0) - up(count / top),
  }, svg("title", {}, `${count} changes, ${60 - minute} to ${59 - minute} min ago`)));
  const busiest = Math.max(...counts);
  return frame(`${events.length} changes in the last hour, at most ${busiest} in a minute`, top, ...shapes.filter(Boolean));
}

/** Longer than between two counts, with some to spare: in between it was not known. */
const GAP = 150_000;

/** Healthy nodes over time: `samples` are what was counted, and how many they are now. */
export function line(samples) {
  const seen = samples.filter((sample) => now() - sample.at <= HOUR);
  const counts = seen.map((sample) => sample.healthy);
  const top = rounded(Math.max(1, ...counts));
  const runs = [];
  seen.forEach((sample, n) => {
    if (n === 0 || sample.at - seen[n - 1].at > GAP) runs.push([]);
    runs.at(-1).push([across(1 - Math.max(0, now() - sample.at) / HOUR), up(sample.healthy / top)]);
  });
  const text = (point) => point.map((number) => number.toFixed(1)).join(",");
  // A line of one point is not to be seen.
  const shapes = runs.map((run) => run.length > 1 ? svg("polyline", { class: "line", points: run.map(text).join(" ") }) : dot(run[0]));
  const last = runs.at(-1)?.at(-1);
  return frame(`${counts.at(-1) ?? 0} nodes are healthy now; in the time shown at least ${Math.min(...counts)}, at most ${Math.max(...counts)}`, top,
    ...shapes, ...(last ? [dot(last)] : []));
}

const dot = ([x, y]) => svg("circle", { class: "dot", cx: x, cy: y, r: 3 });
