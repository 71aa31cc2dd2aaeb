// Show a node or a link: what it is and does, and the form that changes a link.

import { ask, byId, make, percent, rate, sentence, size, table } from "./dom.js";
import { Lines } from "./picture.js";
import { linksOf, nodeName, state } from "./store.js";

const COMMON = ["rate", "delay", "jitter", "loss", "limit"];
let open = null; // {thing, refresh, close}
let onOpen, onClose;

export function start(opened, closed) { onOpen = opened; onClose = closed; }
export const isOpen = () => open !== null;

export function close() {
  if (!open) return;
  open.close();
  open = null;
  byId("panel").hidden = true;
  byId("panel").replaceChildren();
}

export function show(thing) {
  close();
  const exists = thing.kind === "node" ? state.nodes[thing.id] : state.links[thing.key];
  if (!exists) return;
  const panel = byId("panel");
  panel.hidden = false;
  open = thing.kind === "node" ? nodePanel(panel, thing.id) : linkPanel(panel, thing.key);
  open.refresh();
  panel.querySelector("button").focus();
}

export const refresh = () => { if (open) open.refresh(); };

const heading = (text) => make("header", {}, make("h2", {}, text),
  make("button", { type: "button", onclick: () => onClose(), "aria-label": "Close" }, "Close"));

function nodePanel(panel, id) {
  const facts = make("table"), near = make("div", { className: "buttons" }), services = make("div");
  const counters = make("table"), routes = make("div"), log = make("pre", { tabIndex: 0, "aria-label": "Log" }), failure = make("p", { className: "error", role: "alert" });
  const part = make("select", { "aria-label": "Which log", onchange: () => showLog(part.value) });
  panel.replaceChildren(heading(`Node ${nodeName(id)}`), facts, failure, make("h3", {}, "Links"), near, make("h3", {}, "Services"), services,
    make("h3", {}, "Counters"), counters, make("h3", {}, "Routes"), routes, make("h3", {}, "Log "), part, log);
  let alive = true;
  const showLog = async (name) => {
    try {
      const found = await ask(`/api/logs/${name.split("/").map(encodeURIComponent).join("/")}`);
      if (alive) log.textContent = found.lines.join("\n") || found.note;
    } catch (error) { log.textContent = sentence(error); }
  };
  const load = async () => {
    let found;
    try { found = await ask(`/api/nodes/${id}`); } catch (error) { failure.textContent = sentence(error); return; }
    if (!alive) return;
    failure.textContent = "";
    table([], Object.entries(found.counters).map(([name, value]) => [name.replaceAll("_", " "), value.toLocaleString()]), counters);
    if (!Object.keys(found.counters).length) table([], [["not measured yet"]], counters);
    routes.replaceChildren(found.routes.length ? table(["to", "next hop", ""], found.routes.slice(0, 300).map((one) =>
      [nodeName(one.to), one.via.map(nodeName).join(", "), one.explicit ? `explicit, from ${one.from}` : ""])) : make("p", {}, "none"));
    if (found.routes.length > 300) routes.append(make("p", {}, `and ${found.routes.length - 300} more`));
    services.replaceChildren(found.services.length ? table(["service", "state", ""], found.services.map((one) =>
      [one.service, one.state, [one.reason, one.restarts ? `${one.restarts} restarts` : ""].filter(Boolean).join(", ")])) : make("p", {}, "none"));
    const names = [...found.logs, ...found.services.map((one) => `${id}/${one.service}`)];
    if (part.options.length !== names.length) {
      part.replaceChildren(...names.map((name) => make("option", { value: name }, name)));
      showLog(names[0]);
    }
  };
  let timer = null;
  const repeat = async () => {
    try { await load(); } finally { if (alive) timer = setTimeout(repeat, 3000); }
  };
  repeat();
  return {
    refresh() {
      const node = state.nodes[id];
      if (!node) { onClose(); return; }
      table([], [["state", node.state + (node.why ? `: ${node.why}` : "")], ["address", node.address], ...(node.external ? [["external", "yes"]] : [])], facts);
      const mine = linksOf(id), keys = mine.map(([key]) => key).join();
      if (near.dataset.keys === keys) return;
      near.dataset.keys = keys;
      near.replaceChildren(...mine.slice(0, 100).map(([key, link]) =>
        make("button", { type: "button", onclick: () => onOpen({ kind: "link", key }) }, `to ${nodeName(link.a === id ? link.b : link.a)}`)));
    },
    close() { alive = false; clearTimeout(timer); },
  };
}

function linkPanel(panel, key) {
  const link = state.links[key], { a, b } = link;
  const facts = make("p"), measured = make("table"), words = make("ul"), traffic = make("div", { className: "chart" }), queue = make("div", { className: "chart" });
  const form = linkForm(a, b, key);
  panel.replaceChildren(heading(`Link ${nodeName(a)} – ${nodeName(b)}`), facts, make("h3", {}, "Requested and measured"), measured, words,
    make("h3", {}, "Throughput"), traffic, make("h3", {}, "Queue"), queue, make("h3", {}, "Change it"), form.element);
  const charts = [new Lines(traffic, link, "bps", rate), new Lines(queue, link, "queued", size)];
  const timer = setInterval(() => charts.forEach((chart) => chart.draw()), 1000);
  return {
    refresh() {
      const now = state.links[key];
      if (!now) { onClose(); return; }
      facts.textContent = `${now.state}${now.kind ? `, carried by ${now.kind}` : ""}${now.down ? `, ${now.down} taken down` : ""}${now.reason ? `: ${now.reason}` : ""}`;
      table(["", `${a} → ${b} requested`, "measured", `${b} → ${a} requested`, "measured"], compared(now), measured);
      words.replaceChildren(make("li", {}, `${a} → ${b}: ${now.forward.words}`), make("li", {}, `${b} → ${a}: ${now.backward.words}`));
      form.refresh(now);
      charts.forEach((chart) => chart.draw());
    },
    close() { clearInterval(timer); charts.forEach((chart) => chart.close()); },
  };
}

/** Return rows with what is requested and measured of a link, in both directions. */
function compared(link) {
  const ways = [[link.forward, state.measured[`${link.a}>${link.b}`]], [link.backward, state.measured[`${link.b}>${link.a}`]]];
  const row = (name, requested, found) => [name, ...ways.flatMap(([spec, one]) => [requested(spec) ?? "–", (one ? found(one) : null) ?? "–"])];
  const drops = (one) => Object.entries(one.drops).map(([cause, count]) => `${cause} ${count}`).join(", ") || null;
  return [
    row("rate", (spec) => spec.rate_bps ? rate(spec.rate_bps) : null, (one) => rate(one.bps)),
    row("load", () => null, (one) => one.load !== null ? percent(one.load) : null),
    row("delay", (spec) => spec.delay_ms !== null ? `${spec.delay_ms} ms` : null, (one) => one.delay_ms !== null ? `${one.delay_ms} ms` : null),
    row("loss", (spec) => spec.loss !== null ? percent(spec.loss) : null, (one) => one.loss !== null ? percent(one.loss) : null),
    row("queue", (spec) => spec.limit_bytes ? size(spec.limit_bytes) : null, (one) => size(one.queued)),
    row("dropped", () => null, drops)];
}

function linkForm(a, b, key) {
  const direction = make("select", { id: "direction" }, make("option", { value: "both" }, "both"),
    make("option", { value: "forward" }, `${a} → ${b}`), make("option", { value: "backward" }, `${b} → ${a}`));
  const common = make("div", { className: "keys" }), others = make("div", { className: "keys" }), said = make("p", { role: "alert" });
  const inputs = new Map();
  let keys = [], known = "";
  const inForce = (one) => direction.value === "backward" ? one.backward : one.forward;
  const fill = () => { for (const one of keys) { const input = inputs.get(one.key); input.value = input.defaultValue = inForce(one); } };
  const load = async () => {
    try { keys = (await ask(`/api/links/${a}/${b}`)).keys; } catch (error) { tell(error); return; }
    if (!inputs.size) {
      for (const one of keys) {
        const input = make("input", { id: `key-${one.key}`, placeholder: one.expected, title: one.help, autocomplete: "off", spellcheck: false });
        inputs.set(one.key, input);
        (COMMON.includes(one.key) ? common : others).append(make("label", { htmlFor: input.id }, one.key), input);
      }
    }
    if (![...inputs.values()].some((input) => input.value !== input.defaultValue)) fill();
  };
  const tell = (error) => { said.className = error ? "error" : "done"; said.textContent = error ? sentence(error) : "done"; };
  const send = async (body) => {
    said.textContent = "";
    try { await ask(`/api/links/${a}/${b}`, { direction: direction.value, ...body }); tell(null); } catch (error) { tell(error); return; }
    for (const input of inputs.values()) input.defaultValue = input.value;
    load();
  };
  direction.addEventListener("change", fill);
  const element = make("form", { onsubmit: (event) => {
    event.preventDefault();
    const values = Object.fromEntries([...inputs].filter(([, input]) => input.value !== input.defaultValue).map(([name, input]) => [name, input.value]));
    if (Object.keys(values).length) send({ action: "set", values });
    else tell({ message: "nothing was changed in the form" });
  } },
  make("div", { className: "keys" }, make("label", { htmlFor: "direction" }, "direction"), direction), common,
  make("details", {}, make("summary", {}, "more"), others),
  make("div", { className: "buttons" }, make("button", { type: "submit" }, "Set"),
    ...["down", "up", "reset"].map((action) => make("button", { type: "button", onclick: () => send({ action }) }, action))), said);
  return { element, refresh(link) { const now = JSON.stringify([link.forward.words, link.backward.words]); if (now !== known) { known = now; load(); } } };
}
