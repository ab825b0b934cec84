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

/** Healthy nodes over time. */
export function line(samples) {
  const top = rounded(Math.max(1, ...samples.map((sample) => sample.healthy)));
  const points = samples.map((sample) => [across(1 - (now() - sample.at) / HOUR), up(sample.healthy / top)]);
  const last = points.at(-1);
  const path = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const healthy = samples.at(-1)?.healthy ?? 0;
  return frame(`${healthy} nodes are healthy now`, top,
    svg("polyline", { class: "line", points: path }),
    ...(last ? [svg("circle", { class: "dot", cx: last[0], cy: last[1], r: 3 })] : []));
}
