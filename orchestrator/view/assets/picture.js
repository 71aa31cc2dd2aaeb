// Draw the topology: the server has placed the nodes, ECharts draws them on a canvas.

import { byId, colour, make, percent, rate } from "./dom.js";
import { history, linksOf, nodeName, state } from "./store.js";

const SCALES = {
  load: { bounds: [0.25, 0.5, 0.75, 0.95], of: (one) => one.load ?? (one.bps ? 0 : null), name: "of the rate" },
  loss: { bounds: [0.001, 0.01, 0.05, 0.2], of: (one) => one.loss, name: "of the packets" },
  queue: { bounds: [0.1, 0.25, 0.5, 0.9], of: (one) => one.queue ?? (one.queued ? 0 : null), name: "of the limit" },
};
const SHAPES = { ready: "circle", starting: "triangle", degraded: "diamond", unreachable: "rect", stopped: "rect", paused: "roundRect", vacant: "circle" };
const MOST_NAMES = 150; // nodes that have their names beside them

let chart, links = [], nodes = [], pending = false;
let mode = "load";
export let chosen = null; // {kind: "node", id} or {kind: "link", key}

export function start(element, onOpen, onHover) {
  chart = echarts.init(element, null, { renderer: "canvas" });
  const thing = (event) => event.dataType === "edge" ? { kind: "link", key: event.data.key } : { kind: "node", id: event.data.node };
  chart.on("click", (event) => { if (event.data) onOpen(thing(event)); });
  chart.on("mouseover", (event) => { if (event.data) onHover(thing(event)); });
  chart.on("mouseout", () => onHover(null));
  new ResizeObserver(() => { chart.resize(); shown = ""; draw(); }).observe(element);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { shown = ""; draw(); });
}

export function setMode(name) { mode = name; legend(); draw(); }
export function choose(thing) { chosen = thing; draw(); }

/** Draw at the next frame, however many changes there are until then. */
export function draw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; drawNow(); });
}

let shown = "";
function drawNow() {
  if (!chart || !Object.keys(state.at).length) return;
  const count = Object.keys(state.nodes).length;
  const width = Math.max(1, 4 - Math.log10(count + 1));
  const paint = Object.fromEntries(["link", "link-down", "node-edge", "chosen", "text", "page", ...Object.keys(SHAPES),
    ...[1, 2, 3, 4, 5].map((step) => `scale-${step}`)].map((name) => [name, colour(name)]));
  nodes = Object.values(state.nodes).filter((node) => state.at[node.id]).map((node) => nodeItem(node, count, paint));
  links = Object.entries(state.links).map(([key, link]) => linkItem(key, link, width, paint))
    .sort((one, other) => one.lineStyle.width - other.lineStyle.width); // the busiest on top
  const now = JSON.stringify([nodes, links]);
  if (now === shown) return; // nothing that is visible changed
  shown = now;
  chart.setOption({
    animation: false,
    series: [{
      id: "lab", type: "graph", layout: "none", roam: true, scaleLimit: { min: 0.3, max: 40 }, nodeScaleRatio: 0.5,
      ...box(), left: "center", top: "middle", selectedMode: false,
      label: { show: count <= MOST_NAMES, position: "bottom", color: paint.text, fontSize: 11 },
      emphasis: { focus: "none", label: { show: true }, lineStyle: { width: width + 3 } },
      data: nodes, links,
    }],
  });
  byId("picture").dataset.drawn = String(nodes.length);
}

/** Return the size of the picture: as large as fits, with the proportions of the layout. */
function box() {
  const points = Object.values(state.at), extent = (axis) => {
    const values = points.map((point) => point[axis]);
    return Math.max(1e-6, Math.max(...values) - Math.min(...values));
  };
  const [width, height] = [extent(0), extent(1)];
  const scale = Math.min((chart.getWidth() - 80) / width, (chart.getHeight() - 72) / height);
  return { width: width * scale, height: height * scale };
}

function nodeItem(node, count, paint) {
  // ECharts rounds the ends of level lines to half a unit, so a unit has to be small.
  const [x, y] = state.at[node.id].map((value) => value * 1000);
  const mine = chosen?.kind === "node" && chosen.id === node.id;
  const size = count <= 30 ? 22 : count <= MOST_NAMES ? 14 : count <= 500 ? 9 : 7;
  return {
    id: `n${node.id}`, name: nodeName(node.id), node: node.id, x, y,
    symbol: SHAPES[node.state] || "rect", symbolSize: mine ? size + 8 : size, label: mine ? { show: true, fontWeight: "bold" } : {},
    itemStyle: { color: paint[node.state] || paint.unreachable, borderColor: mine ? paint.chosen : paint["node-edge"],
      borderWidth: mine ? 4 : count > 500 ? 0.5 : 1.5, borderType: node.external ? "dashed" : "solid" },
  };
}

function linkItem(key, link, width, paint) {
  const step = stepOf(link), mine = chosen?.kind === "link" && chosen.key === key;
  const down = link.state !== "up" || link.down;
  return {
    key, source: `n${link.a}`, target: `n${link.b}`,
    lineStyle: { color: down ? paint["link-down"] : step ? paint[`scale-${step}`] : paint.link,
      width: mine ? width + 4 : width + step * 0.7, type: down ? "dashed" : "solid", opacity: step || mine || down ? 1 : 0.75,
      shadowColor: paint.chosen, shadowBlur: mine ? 14 : 0 },
  };
}

/** Return the step of a link on the scale, 0 for nothing: that of its busier direction. */
export function stepOf(link) {
  const { bounds, of } = SCALES[mode];
  const values = [state.measured[`${link.a}>${link.b}`], state.measured[`${link.b}>${link.a}`]]
    .filter(Boolean).map(of).filter((value) => value !== null && value !== undefined);
  const value = values.length ? Math.max(...values) : null;
  if (value === null || (mode !== "load" && value === 0)) return 0;
  return 1 + bounds.filter((bound) => value >= bound).length;
}

export function legend() {
  const { bounds, name } = SCALES[mode];
  const item = (kind, text) => make("li", {}, make("span", { className: `swatch ${kind}` }), text);
  const steps = ["below " + percent(bounds[0]), ...bounds.map((bound) => `from ${percent(bound)}`)];
  byId("legend").replaceChildren(item("none", "none"), ...steps.map((text, index) => item(`s${index + 1}`, text)),
    make("li", {}, name), item("down", "down"));
}

export function shapes() {
  const counts = {};
  for (const node of Object.values(state.nodes)) counts[node.state] = (counts[node.state] || 0) + 1;
  byId("shapes").replaceChildren(...Object.entries(counts).map(([name, count]) => make("li", {}, `${count} ${name}`)));
}

/** Say in a line what a node or a link is and does. */
export function words(thing) {
  if (!thing) return "";
  if (thing.kind === "node") {
    const node = state.nodes[thing.id];
    return node ? `node ${nodeName(node.id)}, ${node.state}, ${node.address}, ${linksOf(node.id).length} links` : "";
  }
  const link = state.links[thing.key];
  if (!link) return "";
  const way = (from, to) => { const one = state.measured[`${from}>${to}`]; return one ? rate(one.bps) : "idle"; };
  return `link ${link.a}–${link.b}, ${link.state}, ${way(link.a, link.b)} there, ${way(link.b, link.a)} back`;
}

/** Return the nearest node in the direction of an arrow key. */
export function neighbour(id, key) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  const ids = Object.keys(state.at).map(Number);
  if (!state.at[id]) return ids[0];
  const [x, y] = state.at[id];
  let best = id, least = Infinity;
  for (const other of ids) {
    const [ox, oy] = state.at[other], along = (ox - x) * dx + (oy - y) * dy, aside = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
    if (other !== id && along > 1e-6 && along + 2.5 * aside < least) { best = other; least = along + 2.5 * aside; }
  }
  return best;
}

/** Draw the last minutes of a link: one line for each direction. */
export class Lines {
  constructor(element, link, property, format) {
    this.chart = echarts.init(element, null, { renderer: "canvas" });
    this.link = link; this.property = property; this.format = format;
    this.draw();
  }
  draw() {
    const now = Date.now(), text = colour("soft");
    const line = (from, to, paint) => ({
      name: `${from} → ${to}`, type: "line", showSymbol: false, step: "end", color: colour(paint), animation: false,
      data: [...(history.get(`${from}>${to}`) || []), ...(history.get(`${from}>${to}`) || []).slice(-1).map((last) => ({ ...last, time: now }))]
        .map((point) => [point.time, point[this.property]]),
    });
    this.chart.setOption({
      grid: { left: 74, right: 8, top: 22, bottom: 20 }, legend: { top: 0, itemHeight: 8, textStyle: { color: text } },
      xAxis: { type: "time", min: now - 120_000, max: now, axisLabel: { color: text, hideOverlap: true }, splitNumber: 3 },
      yAxis: { type: "value", min: 0, axisLabel: { color: text, formatter: this.format }, splitNumber: 2, splitLine: { lineStyle: { color: colour("line") } } },
      series: [line(this.link.a, this.link.b, "first"), line(this.link.b, this.link.a, "second")],
    });
  }
  close() { this.chart.dispose(); }
}
