// How it can fool you: a guided tour through real cases.

import { h, probability } from "./dom.js";
import { film } from "./film.js";
import { address, follow, linkButton } from "./main.js";
import { labelWords, legend } from "./cases.js";

export async function show(place, library, state, { go }) {
  const stops = library.tour;
  if (!stops.length) {
    place.append(h("p", {}, "No case of this library fits a stop of the tour."));
    return;
  }
  const number = Math.min(Math.max(Number.parseInt(state.stop, 10) || 1, 1), stops.length);
  const stop = stops[number - 1], row = library.byId.get(stop.case);
  const { lungs } = await library.detail(row.id);
  const to = (target, text, kind) =>
    h("a", { class: kind, href: address(target), onclick: (event) => follow(event, target, go) }, text);
  const step = (by) => ({ room: "tour", stop: String(number + by) });
  const mapped = stop.panels.some((panel) => Object.values(panel.answers).some((answer) => answer.map));
  place.append(
    h("ol", { class: "t-stops" }, stops.map((other, index) => h("li", {},
      h("a", { href: address({ room: "tour", stop: String(index + 1) }),
        "aria-current": index + 1 === number ? "step" : null,
        onclick: (event) => follow(event, { room: "tour", stop: String(index + 1) }, go) }, other.title)))),
    h("h2", {}, stop.title),
    h("p", { class: "t-words" }, stop.words),
    h("p", { class: "side-note" },
      `The case, ${row.id} (label: ${labelWords(row)}), was chosen by a rule: ${stop.rule}`),
    ...(mapped ? [h("div", { class: "tools" }, legend(library))] : []),
    h("div", { class: "t-panels" }, stop.panels.map((panel) => draw(library, row, panel, lungs))),
    h("p", { class: "t-steps" }, number > 1 && to(step(-1), "Previous"),
      number < stops.length && to(step(1), "Next", "main-button"),
      to({ room: "cases", outcome: "all", case: row.id }, "Open the case"), linkButton()));
}

function draw(library, row, panel, lungs) {
  const source = library.member(panel.image);
  const entries = Object.entries(panel.answers);
  const mapped = entries.filter(([, answer]) => answer.map);
  const line = ([name, answer]) => h("li", {}, h("span", {}, library.title(name)),
    h("strong", { class: `decision ${answer.decision}` }, `${probability(answer.probability)} ${answer.decision}`));
  const decided = entries.filter(([, answer]) => answer.decision);
  const stage = (content) => h("div", { class: "t-stage" }, film(library, source, { aspect: row.aspect, ...content }));
  const pictures = mapped.length
    ? mapped.map(([name, answer]) => h("figure", { class: "card" },
      stage({ map: answer.map, lungs, alt: `${library.title(name)}: ${answer.words}` }),
      h("figcaption", {}, h("h3", {}, library.title(name)), h("span", { class: "quiet" }, answer.words))))
    : [h("figure", { class: "card" }, stage({ alt: panel.title }))];
  const shown = decided.length > 0 && h("ul", { class: "t-lines" }, decided.map(line));
  return h("section", { class: mapped.length ? "t-panel wide" : "t-panel" },
    h("h3", {}, panel.title), h("div", { class: "cards" }, pictures), shown);
}
