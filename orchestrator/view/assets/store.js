// Keep the state of the lab as the server sends it: all of it first, then differences.

const KEPT = 180; // points of a link's history
const MOST_EVENTS = 300;

export const state = { lab: {}, nodes: {}, links: {}, at: {}, measured: {}, runs: {} };
export const events = [];
export const history = new Map(); // by direction, such as "1>2"

const listeners = [];
/** Call back with the names of the sections that changed. */
export const onChange = (listener) => listeners.push(listener);

export function connect() {
  const source = new EventSource("/api/stream");
  source.onmessage = (message) => apply(JSON.parse(message.data));
  source.onerror = () => {
    state.lab = { ...state.lab, state: "not connected", problems: ["`nm view` does not answer; this page tries again"] };
    tell(new Set(["lab"]));
  };
}

function apply(message) {
  const changed = new Set();
  if (message.all) {
    for (const name of Object.keys(state)) { state[name] = message.all[name] || {}; changed.add(name); }
    events.length = 0;
  }
  for (const [name, entries] of Object.entries(message.set || {})) { Object.assign(state[name] ??= {}, entries); changed.add(name); }
  for (const [name, keys] of Object.entries(message.gone || {})) {
    for (const key of keys) { delete state[name][key]; if (name === "measured") note(key, { bps: 0, loss: 0, queued: 0 }); }
    changed.add(name);
  }
  if (changed.has("measured")) for (const [key, entry] of Object.entries(state.measured)) note(key, entry);
  if (message.events) {
    events.push(...message.events);
    events.splice(0, Math.max(0, events.length - MOST_EVENTS));
    changed.add("events");
  }
  tell(changed);
}

function note(key, entry) {
  if (!history.has(key)) history.set(key, []);
  const points = history.get(key);
  points.push({ time: Date.now(), bps: entry.bps, loss: entry.loss || 0, queued: entry.queued });
  if (points.length > KEPT) points.shift();
}

const tell = (changed) => { for (const listener of listeners) listener(changed); };

export const linksOf = (node) => Object.entries(state.links).filter(([, link]) => link.a === node || link.b === node);
export const nodeName = (id) => { const node = state.nodes[id]; return node && node.name !== `node-${id}` ? `${id} ${node.name}` : String(id); };
