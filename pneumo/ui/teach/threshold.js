// The threshold room: what one operating point finds and misses, and what that means where pneumonia is rarer.

import { downloadButton, h, percent, probability, select, table, withInterval } from "./dom.js";
import { thumbnail } from "./film.js";
import { address, follow, linkButton } from "./main.js";
import { auc, confusion, curve, isIll, predictive, wilson } from "./stats.js";
import { labelWords } from "./cases.js";
import { plot } from "./plot.js";

export async function show(place, library, state, { go, remember }) {
  const prevalenceHere = library.cases.filter(isIll).length / library.cases.length;
  const wanted = {
    network: Object.hasOwn(library.networks, state.network) ? state.network : "together",
    threshold: bounded(state.threshold),
    prevalence: bounded(state.prevalence) ?? 0.1,
  };
  wanted.threshold ??= library.threshold(wanted.network);

  const out = { numbers: h("div"), words: h("p", { class: "t-words", role: "status" }),
    figures: h("div", { class: "t-figures" }), missed: h("div", { class: "t-grid small" }), heading: h("h3") };
  const slide = slider("Operating point: calls pneumonia from", wanted.threshold,
    (value) => update({ threshold: value }));
  const share = slider("Prevalence: of all children examined, have pneumonia", wanted.prevalence,
    (value) => update({ prevalence: value }));
  let points, figures, shown = "";

  const choose = (network) => {
    wanted.network = network;
    points = curve(library.cases, network);
    figures = [
      plot({ title: "ROC", x: "false alarms: 1 \u2212 specificity", y: "sensitivity",
        lines: [{ points: points.map((p) => [p.alarms, p.sensitivity]) }], diagonal: true }),
      plot({ title: "Precision and recall", x: "recall: sensitivity", y: "precision: predictive value in this data set",
        lines: [{ points: points.slice(1).map((p) => [p.sensitivity, p.precision]) }] }),
    ];
    out.figures.replaceChildren(
      h("figure", {}, figures[0].element, h("figcaption", {}, "The nearer to the upper left corner, the better: all "
        + `of the curve is this network, the dot is your operating point. Area ${auc(points).toFixed(3)}.`)),
      h("figure", {}, figures[1].element, h("figcaption", {}, "To the right more pneumonias are found, and downwards "
        + "more of the calls are false. Precision holds for this data set, where "
        + `${percent(prevalenceHere, 0)} have pneumonia.`)),
      downloadButton(`curve_${network}.csv`, () => [["threshold", "sensitivity", "specificity", "precision"],
        ...points.map((p) => [p.threshold, p.sensitivity, 1 - p.alarms, p.precision])]));
  };

  const update = (changes) => {
    Object.assign(wanted, changes);
    const { network, threshold, prevalence } = wanted;
    remember({ room: "threshold", network, threshold: String(threshold), prevalence: String(prevalence) });
    const { tp, fn, fp, tn } = confusion(library.cases, network, threshold);
    const sensitivity = tp / (tp + fn), specificity = tn / (tn + fp);
    const of = predictive(sensitivity, specificity, prevalence);
    out.numbers.replaceChildren(
      table("Confusion matrix of the test images", ["", "called pneumonia", "called normal"],
        [["labelled pneumonia", `${tp} found`, `${fn} missed`],
          ["labelled normal", `${fp} false alarms`, `${tn} cleared`]]),
      table("Rates with 95 % intervals", ["", "on the test images", `at a prevalence of ${percent(prevalence)}`], [
        ["sensitivity", withInterval(sensitivity, wilson(tp, tp + fn)), "the same"],
        ["specificity", withInterval(specificity, wilson(tn, tn + fp)), "the same"],
        ["positive predictive value", withInterval(tp / (tp + fp), wilson(tp, tp + fp)), percent(of.positive)],
        ["negative predictive value", withInterval(tn / (tn + fn), wilson(tn, tn + fn)), percent(of.negative)],
      ]));
    say(of, prevalence);
    figures[0].point(1 - specificity, sensitivity);
    // Where nothing is called there is no precision.
    figures[1].point(sensitivity, tp + fp ? tp / (tp + fp) : NaN);
    const missed = library.cases.filter((row) => isIll(row) && row.probabilities[network] < threshold)
      .sort((a, b) => a.probabilities[network] - b.probabilities[network]);
    out.heading.textContent = missed.length
      ? `Now missed: ${missed.length} of ${tp + fn} pneumonias` : "No pneumonia is missed now.";
    // The same pictures are not drawn again while the slider moves between them.
    const key = `${network} ${missed.length}`;
    if (key !== shown) out.missed.replaceChildren(...missed.map((row) => card(row)));
    shown = key;
    slide.set(threshold);
    share.set(prevalence);
  };
  // After a slider has come to rest, so that a screen reader is not read every step.
  let saying = null;
  const say = (of, prevalence) => {
    clearTimeout(saying);
    out.words.setAttribute("aria-live", "off");
    out.words.textContent = inWords(of, prevalence);
    saying = setTimeout(() => {
      out.words.setAttribute("aria-live", "polite");
      out.words.textContent = inWords(of, prevalence);
    }, 500);
  };
  const card = (row) => {
    const target = { room: "cases", outcome: "all", network: wanted.network, case: row.id };
    return h("a", { class: "t-case missed", href: address(target), onclick: (event) => follow(event, target, go) },
      thumbnail(library, row, row.id), h("span", {}, labelWords(row)),
      h("span", { class: "quiet" }, probability(row.probabilities[wanted.network])));
  };
  const jump = (point) => h("button", { type: "button", class: "quiet-button",
    onclick: () => update({ threshold: library.threshold(wanted.network, point) }) }, `${point} operating point`);

  place.append(
    h("h2", {}, "Where to draw the line, and what it costs"),
    h("div", { class: "t-filters" },
      select("Network", library.options(), wanted.network, (value) => {
        choose(value);
        update({ threshold: library.threshold(value) });
      }),
      slide.element, jump("balanced"), jump("screening"), linkButton()),
    h("div", { class: "t-filters" }, share.element,
      h("button", { type: "button", class: "quiet-button", onclick: () => update({ prevalence: prevalenceHere }) },
        `as in this data set, ${percent(prevalenceHere, 0)}`)),
    out.words, h("div", { class: "t-columns" }, out.numbers, out.figures), out.heading, out.missed,
    h("p", { class: "side-note" }, "Intervals are Wilson\u2019s, over images. Sensitivity and specificity hold for "
      + "children like those of the test split; at another prevalence only the predictive values are worked out "
      + "anew."));
  choose(wanted.network);
  update({});
}

/** What an operating point does to a thousand children. */
function inWords({ found, missed, alarms, positive }, prevalence) {
  const whole = (share) => Math.round(1000 * share);
  const of = (share, count = whole(share)) => (share > 0 && count < 1 ? "fewer than 1" : String(count));
  const called = found + alarms;
  const ill = of(prevalence);
  return `Of 1,000 children at this prevalence, ${ill} ${ill === "1" ? "has" : "have"} pneumonia: `
    + `${of(found)} found, ${of(missed, whole(prevalence) - whole(found))} missed. `
    + `Of those without pneumonia, ${of(alarms)} called ill. `
    + (called ? `Of all who are called ill, ${percent(positive, 0)} have pneumonia.` : "Nobody is called ill.");
}

function bounded(text) {
  const value = Number.parseFloat(text);
  return Number.isFinite(value) ? Math.min(Math.max(value, 0), 1) : undefined;
}

/** A slider in steps of a tenth of a percent. */
function slider(label, value, change) {
  const shown = h("output", { "aria-live": "off" });
  const field = h("input", { type: "range", min: "0", max: "1000", step: "1", "aria-label": label,
    oninput: () => change(field.valueAsNumber / 1000) });
  const set = (next) => {
    if (Math.abs(field.valueAsNumber / 1000 - next) > 0.0005) field.value = Math.round(next * 1000);
    shown.textContent = percent(next);
    field.setAttribute("aria-valuetext", shown.textContent);
  };
  set(value);
  return { element: h("label", { class: "t-slider" }, h("span", {}, label), field, shown), set };
}
