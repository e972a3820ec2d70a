// The case library: a gallery with filters, and one case with all that is known of it.

import { choice, h, percent, probability, select } from "./dom.js";
import { film, thumbnail } from "./film.js";
import { address, follow, linkButton } from "./main.js";
import { PNEUMONIA, decide, isIll, outcome, wrongness } from "./stats.js";

const DEFAULTS = { network: "together", point: "balanced", outcome: "missed", wrong: "", subtype: "", sure: "",
  sort: "wrong" };
const OUTCOMES = [["all", "all cases"], ["missed", "missed pneumonia"], ["alarm", "false alarm"],
  ["correct", "correct"]];
const SUBTYPES = [["", "any"], ["bacteria", "bacterial pneumonia"], ["virus", "viral pneumonia"],
  ["none", "no pneumonia"]];
const SURE = [["", "any"], ["high", "sure: below 10 % or from 90 %"], ["low", "unsure: 10 % to 90 %"]];
const SORTS = [["wrong", "most confidently wrong first"], ["right", "most confidently right first"],
  ["near", "nearest to the operating point"], ["name", "by name"]];
const WORDS = { missed: "missed pneumonia", alarm: "false alarm", correct: "correct" };
const BADGES = { missed: "\u2715 missed", alarm: "\u26a0 false alarm", correct: "\u2713 correct" };
const COUNTS = ["none", "one", "two", "all three"];
const WRONG = [["", "any number"], ...COUNTS.map((text, number) => [String(number), text])];
const POINTS = [["balanced", "balanced"], ["screening", "screening"]];

/** What the data set says of a case. */
export function labelWords(row) {
  if (!isIll(row)) return "normal";
  return `pneumonia${{ bacteria: ", bacterial", virus: ", viral" }[row.subtype] ?? ""}`;
}

/** How many of the networks answer wrongly. */
export const wrongCount = (library, row, point) =>
  library.names.filter((name) => outcome(row, name, library.threshold(name, point)) !== "correct").length;

export async function show(place, library, state, { go, remember }) {
  const known = { network: library.options(), point: POINTS, outcome: OUTCOMES, wrong: WRONG, subtype: SUBTYPES,
    sure: SURE, sort: SORTS };
  const wanted = { ...DEFAULTS, ...state };
  for (const [name, options] of Object.entries(known)) {
    if (!options.some(([value]) => value === wanted[name])) wanted[name] = DEFAULTS[name];
  }
  if (state.case) await openCase(place, library, wanted, go);
  else gallery(place, library, wanted, { go, remember });
}

/** The cases that a filter leaves, in its order. */
export function filtered(library, { network, point, outcome: kind, wrong, subtype, sure, sort }) {
  const threshold = library.threshold(network, point);
  const found = library.cases.filter((row) => {
    const value = row.probabilities[network];
    return (kind === "all" || outcome(row, network, threshold) === kind)
      && (wrong === "" || wrongCount(library, row, point) === Number(wrong))
      && (subtype === "" || (subtype === "none" ? !isIll(row) : row.subtype === subtype))
      && (sure === "" || (value < 0.1 || value >= 0.9) === (sure === "high"));
  });
  const keys = { wrong: (row) => -wrongness(row, network), right: (row) => wrongness(row, network),
    near: (row) => Math.abs(row.probabilities[network] - threshold), name: () => 0 };
  const key = keys[sort] ?? keys.name;
  return found.sort((a, b) => key(a) - key(b) || (a.id < b.id ? -1 : 1));
}

const shared = (wanted) =>
  Object.fromEntries(Object.entries(wanted).filter(([name, value]) => name in DEFAULTS && value !== DEFAULTS[name]));

function gallery(place, library, wanted, { go, remember }) {
  const grid = h("div", { class: "t-grid" });
  const count = h("p", { class: "t-count", role: "status" });
  const update = (changes) => {
    Object.assign(wanted, changes);
    remember({ room: "cases", ...shared(wanted) });
    const rows = filtered(library, wanted);
    count.textContent = rows.length
      ? `${rows.length} of the ${library.cases.length} official test images`
      : "No test image fits these filters. Widen one of them.";
    grid.replaceChildren(...rows.map((row) => card(row)));
  };
  const card = (row) => {
    const threshold = library.threshold(wanted.network, wanted.point);
    const kind = outcome(row, wanted.network, threshold);
    const target = { room: "cases", ...shared(wanted), case: row.id };
    const wrong = COUNTS[wrongCount(library, row, wanted.point)];
    return h("a", { class: `t-case ${kind}`, href: address(target), onclick: (event) => follow(event, target, go) },
      thumbnail(library, row, ""), h("strong", {}, BADGES[kind]), h("span", {}, labelWords(row)),
      h("span", { class: "quiet" }, `${probability(row.probabilities[wanted.network])}; wrong: ${wrong}`));
  };
  const field = (name, label, options) => select(label, options, wanted[name], (value) => update({ [name]: value }));
  place.append(
    h("h2", {}, "Every official test image, and what the networks made of it"),
    h("p", { class: "side-note" }, "The number is the probability of pneumonia that the chosen network gives; "
      + "\u201cwrong\u201d is how many networks decide otherwise than the label. Labels are the data "
      + "set\u2019s; some may be wrong themselves."),
    h("div", { class: "t-filters" },
      field("outcome", "Outcome", OUTCOMES), field("network", "Network", library.options()),
      field("point", "Operating point", POINTS), field("wrong", "Wrong among the three", WRONG),
      field("subtype", "Label", SUBTYPES), field("sure", "How sure", SURE), field("sort", "Order", SORTS),
      linkButton()),
    count, grid);
  update({});
}

async function openCase(place, library, wanted, go) {
  const row = library.byId.get(wanted.case);
  const back = { room: "cases", ...shared(wanted) };
  if (!row) {
    place.append(
      h("section", { class: "exam verdict refused", role: "alert" }, h("h2", {}, "There is no such case."),
        h("p", {}, `A case must be one of the ${library.cases.length} test images; received `
          + `\u201c${wanted.case}\u201d. Choose one in the library.`)),
      link("To the case library", back, go));
    return;
  }
  const detail = await library.detail(row.id);
  const list = filtered(library, wanted);
  const at = list.findIndex((other) => other.id === row.id);
  const neighbour = (step) => at >= 0 && list[at + step] && { ...back, case: list[at + step].id };
  const kind = outcome(row, "together", library.threshold("together", wanted.point));
  const wrong = wrongCount(library, row, wanted.point);
  place.append(
    h("p", { class: "t-steps" }, link("\u2190 All cases", back, go),
      neighbour(-1) && link("Previous", neighbour(-1), go, "previous"),
      neighbour(1) && link("Next", neighbour(1), go, "next"),
      at >= 0 && h("span", { class: "quiet" }, `${at + 1} of ${list.length}`), linkButton()),
    h("h2", {}, row.id),
    h("p", {}, "Label of the data set: ", h("strong", {}, labelWords(row)), ". Mean of the networks: ",
      h("strong", {}, probability(row.probabilities.together)), `, ${WORDS[kind]}. `,
      `Wrong among the three at the ${wanted.point} operating point: ${COUNTS[wrong]}.`),
    await answers(library, row, detail, wanted.point));
  place.tabIndex = -1;
  place.addEventListener("keydown", (event) => {
    const step = !event.altKey && !event.ctrlKey && !event.metaKey && { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step && !event.target.closest("input, select") && neighbour(step)) go(neighbour(step));
  });
  requestAnimationFrame(() => place.focus({ preventScroll: true }));
}

function link(text, target, go, rel) {
  return h("a", { href: address(target), rel, onclick: (event) => follow(event, target, go) }, text);
}

/** The radiograph, and each network's answer with its map; a place that was clicked may be marked. */
export async function answers(library, row, detail, point, mark) {
  const cards = h("div", { class: "cards t-cards" });
  const draw = (target) => {
    cards.replaceChildren(
      h("figure", { class: "card" }, stage(film(library, library.image(row.id),
        { aspect: row.aspect, lungs: detail.lungs, alt: "The radiograph" }), mark),
      h("figcaption", {}, h("header", {}, h("h3", {}, "Radiograph")),
        h("span", { class: "quiet" }, lungWords(detail)))),
      ...library.names.map((name) => networkCard(library, row, detail, point, name, target)));
  };
  const root = h("div", { class: "t-answers" }, tools(library, draw), cards);
  draw("");
  return root;
}

function lungWords({ lungs }) {
  if (!lungs) return "No two lungs were found on it.";
  return lungs.drawn ? "Outline: lungs as people drew them." : "Outline: lungs as the program found them.";
}

function stage(content, mark) {
  if (mark) content.append(h("span", { class: "t-mark", style: `left: ${mark.x * 100}%; top: ${mark.y * 100}%` }));
  return h("div", { class: "t-stage" }, content);
}

function networkCard(library, row, detail, point, name, target) {
  const value = row.probabilities[name], threshold = library.threshold(name, point);
  const decision = decide(value, threshold);
  const explained = target || decision;
  const map = detail.maps[name][explained];
  const words = map.evidence.words;
  return h("figure", { class: "card", "data-network": name },
    stage(film(library, library.image(row.id), { aspect: row.aspect, map, lungs: detail.lungs,
      alt: `${library.title(name)}: evidence for ${explained}. ${words}` })),
    h("figcaption", {},
      h("header", {}, h("h3", {}, library.title(name)), h("span", { class: `decision ${decision}` }, decision)),
      h("div", { class: "probability" },
        h("span", {}, "Probability of pneumonia"), h("strong", {}, probability(value))),
      h("div", { class: "track" }, h("div", { class: `fill ${decision}`, style: `width: ${value * 100}%` }),
        h("div", { class: "point", style: `left: ${threshold * 100}%` })),
      h("span", { class: "quiet" }, `${decision === row.label ? "\u2713 as labelled" : decision === PNEUMONIA
        ? "\u26a0 false alarm" : "\u2715 missed"}; calls pneumonia from ${percent(threshold)}.`),
      h("span", { class: "quiet" }, `Heat for ${explained}: ${words}`)));
}

/** What the colours of a map mean: the method, and the scale that is fixed for each network and class. */
export function legend(library) {
  const ramp = h("canvas", { class: "ramp", width: 256, height: 1, role: "img",
    "aria-label": "colours from no evidence to strong evidence" });
  const context = ramp.getContext("2d"), pixels = context.createImageData(256, 1);
  pixels.data.set(library.ramp);
  context.putImageData(pixels, 0, 0);
  return h("span", { class: "legend", title: `Full strength: ${library.scale}.` }, h("span", {}, `${library.method}: `
    + "no evidence"), ramp, h("span", {}, "strong: what one map in ten reaches"));
}

/** What acts on all maps of a room. */
function tools(library, draw) {
  const root = document.documentElement.style;
  const opacity = root.getPropertyValue("--teach-opacity") || "0.7";
  const switchOf = (text, kind, on) => h("label", {}, h("input", { type: "checkbox", checked: on, onchange: (event) =>
    event.target.closest(".t-answers").classList.toggle(kind, !event.target.checked) }), ` ${text}`);
  return h("div", { class: "tools" }, switchOf("Heatmap", "no-heat", true), switchOf("Lung outline", "no-lungs", true),
    h("label", {}, "Opacity ", h("input", { type: "range", min: "0", max: "100", value: String(opacity * 100),
      "aria-label": "Opacity of the heat",
      oninput: (event) => root.setProperty("--teach-opacity", event.target.value / 100) })),
    choice("Evidence for", [["", "its decision"], ["PNEUMONIA", "PNEUMONIA"], ["NORMAL", "NORMAL"]], "", draw),
    legend(library));
}
