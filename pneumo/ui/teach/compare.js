// The networks compared: every measure with its interval, every figure with what to see in it.

import { downloadButton, h, percent, probability, table, withInterval } from "./dom.js";
import { thumbnail } from "./film.js";
import { address, follow } from "./main.js";
import { curve, outcome, reliability } from "./stats.js";
import { labelWords } from "./cases.js";
import { key, plot } from "./plot.js";

export async function show(place, library, _state, { go }) {
  const measured = await library.metrics();
  const names = [...library.names, "together"], titles = names.map(library.title);
  place.append(
    h("h2", {}, "What the networks are worth, and how little separates them"),
    h("p", { class: "side-note" }, `${measured.images} images of ${measured.patients} patients, the official test `
      + `split, by which neither weights nor operating points were chosen. In brackets: ${measured.interval}. `
      + "Decisions are at the balanced operating point."),
    ...measures(measured, names, library), curves(measured, library, names, titles),
    confusions(measured, names, library),
    ...stress(measured, names, titles), ...shortcuts(measured, names, titles), ...disagreements(library, go));
}

const three = (value) => value.toFixed(3);

function cell(metric, score) {
  if (metric?.value == null) return "\u2013";
  return score
    ? withInterval(metric.value, metric.interval, three, three) : withInterval(metric.value, metric.interval);
}

function measures(measured, names, library) {
  const columns = Object.entries(measured.titles);
  const subjects = [...names.map((name) => [library.title(name), measured.test[name]]),
    ...measured.floors.map((floor) => [floor.title, floor.test])];
  const best = [...names].sort((a, b) => measured.test[b].auc.value - measured.test[a].auc.value);
  const [first, last] = [measured.test[best[0]].auc, measured.test[best.at(-1)].auc];
  const apart = first.interval[0] > last.interval[1];
  return [
    table("Measures on the test split", ["", ...columns.map(([, title]) => title)],
      subjects.map(([title, test]) =>
        [title, ...columns.map(([name]) => cell(test[name], measured.scores.includes(name)))])),
    h("p", {}, `The best ROC AUC, ${first.value.toFixed(3)}, and the worst, ${last.value.toFixed(3)}, have `
      + `intervals that ${apart ? "do not overlap" : "overlap: these alone do not tell the networks apart"}. `
      + "The floors are predictors that know nothing of lungs; a network that is not clearly above them has learnt "
      + "nothing of use. ",
    downloadButton("measures.csv", () => [["", ...columns.flatMap(([name]) => [name, `${name}_low`, `${name}_high`])],
      ...subjects.map(([title, test]) => [title,
        ...columns.flatMap(([name]) => [test[name]?.value, ...(test[name]?.interval ?? ["", ""])])])])),
  ];
}

function curves(measured, library, names, titles) {
  const found = names.map((name) => curve(library.cases, name));
  const bins = names.map((name) => reliability(library.cases, name));
  const over = bins.at(-1).filter((bin) => bin.mean > bin.interval[1]).length;
  const under = bins.at(-1).filter((bin) => bin.mean < bin.interval[0]).length;
  const roc = plot({ title: "ROC", x: "false alarms: 1 \u2212 specificity", y: "sensitivity", diagonal: true,
    lines: found.map((points) => ({ points: points.map((p) => [p.alarms, p.sensitivity]) })) });
  const recall = plot({ title: "Precision and recall", x: "recall: sensitivity", y: "precision",
    lines: found.map((points) => ({ points: points.slice(1).map((p) => [p.sensitivity, p.precision]) })) });
  const calibration = plot({ title: "Reliability", x: "mean probability given", y: "share with pneumonia",
    diagonal: true, dots: true,
    lines: bins.map((some) => ({ points: some.map((bin) => [bin.mean, bin.share]),
      intervals: some.map((bin) => [bin.mean, ...bin.interval]) })) });
  const figure = (content, words, file, rows) =>
    h("figure", {}, content.element, h("figcaption", {}, words, " ", downloadButton(file, rows)));
  const each = (some, cells) => names.flatMap((name, index) => some[index].map((one) => [name, ...cells(one)]));
  return h("section", {}, key(titles), h("div", { class: "t-figures" },
    figure(roc, "Where one in ten normal radiographs is called ill, the networks find "
      + `${span(names.map((name) => sensitivityAt(measured.test[name])))} of the pneumonias.`, "roc.csv",
    () => [["network", "threshold", "false_alarms", "sensitivity"],
      ...each(found, (p) => [p.threshold, p.alarms, p.sensitivity])]),
    figure(recall, `Where 95 % of the pneumonias are found, ${span(found.map(precisionAt))} of the calls are right. `
      + "That holds for this data set, where most have pneumonia.", "precision_recall.csv",
    () => [["network", "threshold", "recall", "precision"],
      ...each(found.map((points) => points.slice(1)), (p) => [p.threshold, p.sensitivity, p.precision])]),
    figure(calibration, "On the diagonal, a probability means what it says. For the mean of the networks, "
      + `${over} of ${bins.at(-1).length} bins lie below it (too high a probability) by more than their 95 % `
      + `interval, and ${under} above. Bins have equal numbers of images; bars are Wilson\u2019s, over images.`,
    "reliability.csv",
    () => [["network", "mean_probability", "share_with_pneumonia", "low", "high", "images"],
      ...each(bins, (bin) => [bin.mean, bin.share, ...bin.interval, bin.images])])));
}

/** The sensitivity where one in ten normal radiographs is called ill. */
const sensitivityAt = (test) => test.sensitivity_at_specificity_90.value;

/** The precision where the sensitivity first reaches 0.95. */
const precisionAt = (points) => points.find((point) => point.sensitivity >= 0.95).precision;

const span = (values) => `${percent(Math.min(...values))} to ${percent(Math.max(...values))}`;

function confusions(measured, names, library) {
  const counts = ["true_positives", "false_negatives", "false_positives", "true_negatives"];
  const value = (name, count) => Math.round(measured.test[name][count].value);
  const rows = names.map((name) => [library.title(name), ...counts.map((count) => String(value(name, count)))]);
  const column = (count) => names.map((name) => value(name, count));
  const [missed, alarms] = [column("false_negatives"), column("false_positives")];
  return h("section", {},
    table("Confusion at the balanced operating point",
      ["", "pneumonia found", "pneumonia missed", "false alarm", "normal cleared"], rows),
    h("p", {}, `${Math.min(...missed)} to ${Math.max(...missed)} pneumonias are missed, and `
      + `${Math.min(...alarms)} to ${Math.max(...alarms)} normal radiographs called ill. `,
    downloadButton("confusion.csv", () => [["network", ...counts], ...rows])));
}

const signed = (value) => (value >= 0 ? "+" : "\u2212") + Math.abs(value).toFixed(3);

function stress(measured, names, titles) {
  const all = Object.entries(measured.stress);
  const columns = ["auc", "loss_of_sensitivity", "loss_of_specificity", "flips"];
  const words = ({ auc, loss_of_sensitivity: sensitivity, loss_of_specificity: specificity, flips }) =>
    `${auc.toFixed(3)}; ${signed(-sensitivity)} / ${signed(-specificity)}; ${flips}`;
  let worst = { loss: -1 };
  for (const [kind, found] of all) for (const [index, name] of names.entries()) {
    const loss = Math.max(found[name].loss_of_sensitivity, found[name].loss_of_specificity);
    if (loss > worst.loss) worst = { loss, kind, title: titles[index] };
  }
  return [
    table("Under stress: ROC AUC; change of sensitivity / specificity; decisions that flip", ["", ...titles],
      all.map(([kind, found]) => [kind, ...names.map((name) => words(found[name]))])),
    h("p", {}, "The same images with another exposure, sharpness, format or marker, turned a little or mirrored: "
      + `nothing should change. The largest loss of sensitivity or specificity is ${worst.loss.toFixed(3)}, `
      + `of ${worst.title} under \u201c${worst.kind}\u201d. `,
    downloadButton("stress.csv", () => [["stress", "network", ...columns],
      ...all.flatMap(([kind, found]) =>
        names.map((name) => [kind, name, ...columns.map((column) => found[name][column])]))])),
  ];
}

function shortcuts(measured, names, titles) {
  const all = Object.entries(measured.shortcuts);
  if (!all.length) return [];
  const alone = "all but the lungs black";
  const without = all.filter(([kind]) => kind.startsWith("lungs "));
  const worst = names.map((name) =>
    without.reduce((most, one) => (one[1][name].value > most[1][name].value ? one : most)));
  const kept = titles.map((title, index) =>
    `${title} still ${worst[index][1][names[index]].value.toFixed(2)} (${worst[index][0]})`);
  const told = titles.map((title, index) => `${title} ${measured.shortcuts[alone][names[index]].value.toFixed(2)}`);
  return [
    table("With shortcuts alone: the ROC AUC that is left", ["", ...titles],
      all.map(([kind, found]) => [kind, ...names.map((name) => cell(found[name], true))])),
    h("p", {}, `Without lungs a network should know nothing, 0.5. At most, it knows: ${kept.join(", ")}. `
      + `With the lungs alone it should know all: ${told.join(", ")}. `,
    downloadButton("shortcuts.csv", () => [["shortcut", "network", "auc", "low", "high"],
      ...all.flatMap(([kind, found]) =>
        names.map((name) => [kind, name, found[name].value, ...found[name].interval]))])),
  ];
}

function disagreements(library, go) {
  const split = library.cases.filter((row) => {
    const calls = library.names.filter((name) => row.probabilities[name] >= library.threshold(name)).length;
    return calls > 0 && calls < library.names.length;
  });
  const wrong = split.filter((row) => outcome(row, "together", library.threshold("together")) !== "correct").length;
  const card = (row) => {
    const target = { room: "cases", outcome: "all", case: row.id };
    const said = library.names.map((name) => `${library.title(name)} ${probability(row.probabilities[name])}`);
    return h("a", { class: "t-case", href: address(target), onclick: (event) => follow(event, target, go) },
      thumbnail(library, row, row.id), h("span", {}, labelWords(row)), h("span", { class: "quiet" }, said.join(", ")));
  };
  return [h("h3", {}, `Where the networks disagree: ${split.length} of ${library.cases.length} images`),
    h("p", {}, `On ${wrong} of these the mean of the networks is wrong. A disagreement is a reason to look again. `,
      downloadButton("disagreements.csv", () => [["case", "label", ...library.names],
        ...split.map((row) => [row.id, row.label, ...library.names.map((name) => row.probabilities[name])])])),
    h("div", { class: "t-grid small" }, split.map(card))];
}
