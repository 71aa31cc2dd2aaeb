// Make elements. Whatever comes from the lab is set as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** Make an element; `attributes` are properties of the element where it has them. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) =>
    child instanceof Node ? child : document.createTextNode(String(child))));
  return element;
}

/** Make a table with a head and rows of cells. */
export function table(head, rows, element = make("table")) {
  const row = (tag, cells) => make("tr", {}, ...cells.map((cell) => make(tag, {}, cell)));
  const parts = [make("tbody", {}, ...rows.map((cells) => row("td", cells)))];
  if (head.length) parts.unshift(make("thead", {}, row("th", head)));
  element.replaceChildren(...parts);
  return element;
}

/** Return a colour of the style sheet. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

const prefixed = (value, step, units) => {
  let index = 0;
  while (value >= step && index < units.length - 1) { value /= step; index += 1; }
  return `${value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toPrecision(3)} ${units[index]}`;
};
export const rate = (bps) => prefixed(bps, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"]);
export const size = (bytes) => prefixed(bytes, 1000, ["B", "KB", "MB", "GB"]);
export const percent = (share) => `${Number((share * 100).toPrecision(3))} %`;
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

/** Ask the server; an error is thrown as `nm … -o json` would print it. */
export async function ask(path, body) {
  const options = body === undefined ? {} :
    { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let answer, found;
  try {
    answer = await fetch(path, options);
    found = await answer.json();
  } catch {
    throw { message: "`nm view` does not answer" };
  }
  if (!answer.ok) throw found.error;
  return found;
}

/** Return an error as the command line shows it. */
export function sentence(error) {
  const problems = error.problems && error.problems.length ? error.problems : [error];
  const lines = problems.map((one) => [one.place ? `${one.place.file}  ${one.message}` : one.message,
    one.hint ? `hint: ${one.hint}` : "", !one.hint && one.expected ? `expected: ${one.expected}` : ""].filter(Boolean).join("\n"));
  return `${lines.join("\n\n")}${error.id ? `\n[${error.id}]` : ""}`;
}
