// Counts, rates and curves of the cases. What has a bootstrap interval comes from metrics.json instead.

export const NORMAL = "NORMAL";
export const PNEUMONIA = "PNEUMONIA";

export const isIll = (row) => row.label === PNEUMONIA;

/** What is called at a threshold, as `pneumo.classifier.decide` says it. */
export const decide = (probability, threshold) => (probability >= threshold ? PNEUMONIA : NORMAL);

/** "missed", "alarm" or "correct". */
export function outcome(row, name, threshold) {
  const called = row.probabilities[name] >= threshold;
  if (called === isIll(row)) return "correct";
  return called ? "alarm" : "missed";
}

/** The probability that was given to the wrong class. */
export const wrongness = (row, name) => (isIll(row) ? 1 - row.probabilities[name] : row.probabilities[name]);

/** True and false positives and negatives at a threshold. */
export function confusion(rows, name, threshold) {
  const counts = { tp: 0, fn: 0, fp: 0, tn: 0 };
  for (const row of rows) {
    const called = row.probabilities[name] >= threshold;
    counts[isIll(row) ? (called ? "tp" : "fn") : called ? "fp" : "tn"] += 1;
  }
  return counts;
}

/** The 95 % interval of a share by Wilson (J. Am. Stat. Assoc. 22, 1927). */
export function wilson(count, total) {
  if (!total) return [NaN, NaN];
  const z = 1.959964, share = count / total, square = (z * z) / total;
  const middle = (share + square / 2) / (1 + square);
  const half = (z / (1 + square)) * Math.sqrt((share * (1 - share)) / total + square / (4 * total));
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

/** Predictive values at a prevalence (Bayes). */
export function predictive(sensitivity, specificity, prevalence) {
  const found = sensitivity * prevalence, alarms = (1 - specificity) * (1 - prevalence);
  const cleared = specificity * (1 - prevalence), missed = (1 - sensitivity) * prevalence;
  return { found, alarms, cleared, missed, positive: found / (found + alarms), negative: cleared / (cleared + missed) };
}

/** Points at which the calls change, from calling nothing to calling all. */
export function curve(rows, name) {
  const sorted = [...rows].sort((a, b) => b.probabilities[name] - a.probabilities[name]);
  const ill = rows.filter(isIll).length, well = rows.length - ill;
  const points = [{ threshold: Infinity, sensitivity: 0, alarms: 0, precision: 1 }];
  let tp = 0, fp = 0;
  sorted.forEach((row, index) => {
    if (isIll(row)) tp += 1;
    else fp += 1;
    const threshold = row.probabilities[name];
    if (index + 1 < sorted.length && sorted[index + 1].probabilities[name] === threshold) return;
    points.push({ threshold, sensitivity: tp / ill, alarms: fp / well, precision: tp / (tp + fp) });
  });
  return points;
}

/** Area under the ROC curve, by trapezoids, which count ties half. */
export function auc(points) {
  let area = 0;
  for (let index = 1; index < points.length; index += 1) {
    const [a, b] = [points[index - 1], points[index]];
    area += ((b.alarms - a.alarms) * (a.sensitivity + b.sensitivity)) / 2;
  }
  return area;
}

/** Ten bins of equal mass: mean probability against the share of pneumonias. */
export function reliability(rows, name, bins = 10) {
  const sorted = [...rows].sort((a, b) => a.probabilities[name] - b.probabilities[name]);
  const found = [];
  for (let bin = 0; bin < bins; bin += 1) {
    const part = sorted.slice(Math.round((bin * sorted.length) / bins), Math.round(((bin + 1) * sorted.length) / bins));
    if (!part.length) continue;
    const ill = part.filter(isIll).length;
    const mean = part.reduce((sum, row) => sum + row.probabilities[name], 0) / part.length;
    found.push({ mean, share: ill / part.length, images: part.length, interval: wilson(ill, part.length) });
  }
  return found;
}

/** Mean squared distance of probabilities from what was there (Brier, Monthly Weather Review 78, 1950). */
export const brier = (pairs) =>
  pairs.reduce((sum, [value, ill]) => sum + (value - (ill ? 1 : 0)) ** 2, 0) / pairs.length;

/** Random numbers from a seed, the same in every browser (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
  };
}

/** Some of the rows, in random order. */
export function draw(rows, count, next) {
  const rest = [...rows];
  const chosen = [];
  while (chosen.length < count && rest.length) chosen.push(rest.splice(Math.floor(next() * rest.length), 1)[0]);
  return chosen;
}

const ZONES = ["upper", "middle", "lower"];

/** The lung zone of a place, as shares of width and height, such as "right_lower"; "" outside the lungs. */
export function zoneAt(lungs, x, y) {
  if (!lungs) return "";
  const context = document.createElement("canvas").getContext("2d");
  for (const side of ["right", "left"]) {
    if (!context.isPointInPath(new Path2D(lungs[side]), x * 224, y * 224)) continue;
    const rows = lungs.rows[side];
    const band = rows.findIndex((row, index) => index > 0 && y * 224 < row);
    return `${side}_${ZONES[(band < 0 ? 3 : Math.max(1, band)) - 1]}`;
  }
  return "";
}

export const zoneWords = (zone) => (zone ? `${zone.replace("_", " ")} zone` : "outside the lungs");
