// Start the page: connect, draw what changes, and handle the keyboard.

import { byId } from "./dom.js";
import * as lists from "./lists.js";
import * as panel from "./panel.js";
import * as picture from "./picture.js";
import { connect, linksOf, onChange, state } from "./store.js";

const element = byId("picture");
const hover = (thing) => { byId("hover").textContent = picture.words(thing || picture.chosen); };

function open(thing) {
  picture.choose(thing);
  panel.show(thing);
  hover(thing);
}

function close() {
  panel.close();
  element.focus();
}

picture.start(element, open, hover);
panel.start(open, close);
picture.legend();

onChange((changed) => {
  if (changed.has("lab")) {
    byId("lab").textContent = state.lab.name || "";
    byId("backend").textContent = state.lab.backend || "";
    byId("state").textContent = state.lab.state || "";
    byId("problems").textContent = (state.lab.problems || []).join(" · ");
    document.title = `${state.lab.name || "nm"} – ${state.lab.state || ""}`;
  }
  if (changed.has("nodes")) picture.shapes();
  if (["nodes", "links", "at", "measured"].some((name) => changed.has(name))) { picture.draw(); panel.refresh(); if (panel.isOpen()) hover(null); }
  if (changed.has("runs")) lists.runs();
  if (changed.has("events")) lists.timeline();
});

byId("modes").addEventListener("change", (event) => picture.setMode(event.target.value));

byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const word = byId("wanted").value.trim(), pair = word.match(/^(\d+)\s*[-–]\s*(\d+)$/);
  const key = pair && [`${pair[1]}-${pair[2]}`, `${pair[2]}-${pair[1]}`].find((one) => state.links[one]);
  const node = Object.values(state.nodes).find((one) => String(one.id) === word || one.name === word || one.address === word);
  if (key) open({ kind: "link", key });
  else if (node) open({ kind: "node", id: node.id });
  else byId("hover").textContent = `there is no node or link ${word}`;
});

element.addEventListener("keydown", (event) => {
  const now = picture.chosen;
  if (event.key.startsWith("Arrow")) {
    const from = now?.kind === "node" ? now.id : now?.kind === "link" ? state.links[now.key]?.a : undefined;
    picture.choose({ kind: "node", id: picture.neighbour(from, event.key) });
  } else if (event.key === "l" || event.key === "L") {
    const node = now?.kind === "link" ? state.links[now.key]?.a : now?.id;
    const keys = linksOf(now?.from ?? node).map(([key]) => key);
    if (keys.length) picture.choose({ kind: "link", key: keys[(keys.indexOf(now?.key) + 1) % keys.length], from: now?.from ?? node });
  } else if (event.key === "Enter" && now) open(now);
  else return;
  event.preventDefault();
  hover(null);
});

document.addEventListener("keydown", (event) => { if (event.key === "Escape" && panel.isOpen()) close(); });

connect();
