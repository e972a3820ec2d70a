// Elements, downloads, and numbers as the rest of the page writes them.

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes that begin with "on" are listeners, strings among the children are text. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An element of an SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** A labelled select: options are [value, text]. */
export function select(label, options, value, change) {
  const field = h("select", { "aria-label": label, onchange: () => change(field.value) },
    options.map(([key, text]) => h("option", { value: key, selected: key === value }, text)));
  return h("label", {}, h("span", {}, label), field);
}

/** A row of buttons of which one is chosen. */
export function choice(label, options, value, change) {
  const name = `choice-${(choice.count = (choice.count || 0) + 1)}`;
  return h("fieldset", { class: "choice" }, h("legend", {}, label), options.map(([key, text]) =>
    h("label", {}, h("input", { type: "radio", name, value: key, checked: key === value, onchange: () => change(key) }),
      h("span", {}, text))));
}

/** Rows as a CSV that is saved; made in the browser, sent nowhere. */
export function download(name, rows) {
  const cell = (value) =>
    (/[",\n]/.test(String(value ?? "")) ? `"${String(value).replaceAll('"', '""')}"` : (value ?? ""));
  const text = rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A button that saves rows. */
export function downloadButton(name, rows, text = "Data (CSV)") {
  return h("button", { type: "button", class: "quiet-button", onclick: () => download(name, rows()) }, text);
}

const space = "\u00a0";

/** A share in percent. */
export const percent = (share, digits = 1) =>
  Number.isFinite(share) ? `${(share * 100).toFixed(digits)}${space}%` : "\u2013";

/** A probability in percent; it never claims certainty. */
export function probability(value) {
  if (value < 0.001) return `<${space}0.1${space}%`;
  return value > 0.999 ? `>${space}99.9${space}%` : percent(value);
}

/** The cell of a number with its 95 % interval below it. */
export function withInterval(value, [low, high], write = percent, bound = (edge) => (edge * 100).toFixed(1)) {
  if (!Number.isFinite(value)) return "\u2013";
  return [write(value), " ", h("span", { class: "interval" }, `[${bound(low)}, ${bound(high)}]`)];
}

/** A table whose cells are texts or elements; the first cell of each row is its head. */
export function table(caption, head, rows, kind = "") {
  return h("div", { class: `scroll ${kind}`, role: "region", "aria-label": caption, tabindex: "0" },
    h("table", {}, h("caption", {}, caption),
      h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map(([first, ...cells]) =>
        h("tr", {}, h("th", { scope: "row" }, first), cells.map((text) => h("td", {}, text)))))));
}
