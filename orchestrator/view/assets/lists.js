// Show runs and events below the picture.

import { byId, clock, colour, make, table } from "./dom.js";
import { events, state } from "./store.js";

const KINDS = ["node", "link", "run", "lab"];
const kindOf = (event) => KINDS.find((kind) => event.name.startsWith(kind)) || "lab";
let strip;

export function runs() {
  const rows = Object.values(state.runs).sort((one, other) => (other.folder || "").localeCompare(one.folder || "")).map((run) => [
    run.run, run.scenario || "", run.verdict && run.state === "finished" ? run.verdict : run.state,
    run.total ? make("progress", { value: run.done, max: run.total, title: `${run.done} of ${run.total}` }) : run.reason || "",
    run.report ? make("a", { href: `/reports/${encodeURIComponent(run.folder)}`, target: "_blank", rel: "noopener" }, "report") : "",
  ]);
  if (rows.length) table(["run", "scenario", "state", "", ""], rows, byId("runs"));
  else table([], [["no run yet"]], byId("runs"));
}

export function timeline() {
  const detail = (event) => event.detail === null || event.detail === undefined ? "" :
    typeof event.detail === "object" ? Object.entries(event.detail).map(([name, value]) =>
      `${name} ${typeof value === "object" ? JSON.stringify(value) : value}`).join(", ") : String(event.detail);
  byId("events").replaceChildren(...events.slice(-100).reverse().map((event) => make("li", {},
    make("time", { dateTime: new Date(event.time_ms).toISOString() }, clock(event.time_ms)),
    `${event.name}${event.node ? ` ${event.node}` : ""} `, make("span", { className: "detail" }, detail(event)))));
  if (!strip) {
    strip = echarts.init(byId("strip"), null, { renderer: "canvas" });
    new ResizeObserver(() => strip.resize()).observe(byId("strip"));
  }
  strip.setOption({
    animation: false, grid: { left: 34, right: 8, top: 2, bottom: 14 },
    xAxis: { type: "time", axisLabel: { color: colour("soft"), fontSize: 9, margin: 2, hideOverlap: true }, axisTick: { show: false } },
    yAxis: { type: "category", data: KINDS, axisLabel: { color: colour("soft"), fontSize: 8, interval: 0 }, axisLine: { show: false }, axisTick: { show: false } },
    series: [{ type: "scatter", symbolSize: 5, silent: true, color: colour("first"), data: events.map((event) => [event.time_ms, kindOf(event)]) }],
  });
}
