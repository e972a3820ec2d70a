// The reading exercise: the learner reads a set of cases that a seed draws, then sees them answered.
// What the learner does is kept in this page alone: it is sent nowhere, and gone when the page is closed.

import { choice, download, h, percent, probability, table, withInterval } from "./dom.js";
import { film, thumbnail } from "./film.js";
import { linkButton, refusal } from "./main.js";
import { answers, labelWords } from "./cases.js";
import { NORMAL, PNEUMONIA, brier, decide, draw, isIll, random, wilson, zoneAt, zoneWords } from "./stats.js";

const COUNTS = [["10", "10 cases"], ["20", "20 cases"], ["40", "40 cases"]];
const MIXES = [["balanced", "half of them pneumonia"], ["natural", "as in the data set"]];
const SURE = [["0.5", "guessing"], ["0.65", "a little"], ["0.8", "fairly"], ["0.95", "very"]];
const LARGEST_SEED = 999_999;

const sessions = new Map();

/** The cases of a seed: the same in every browser. */
export function drawn(library, seed, count, mix) {
  const next = random(seed * 1000 + count + (mix === "balanced" ? 0 : 500));
  if (mix !== "balanced") return draw(library.cases, count, next);
  const half = Math.ceil(count / 2);
  const ill = draw(library.cases.filter(isIll), half, next);
  const both = [...ill, ...draw(library.cases.filter((row) => !isIll(row)), count - half, next)];
  return draw(both, both.length, next);
}

export async function show(place, library, state, { remember }) {
  const wanted = {
    seed: Math.min(Math.max(Number.parseInt(state.seed, 10) || 1, 1), LARGEST_SEED),
    count: COUNTS.some(([count]) => count === state.count) ? state.count : "10",
    mix: state.mix === "natural" ? "natural" : "balanced",
  };
  const key = () => `${wanted.seed} ${wanted.count} ${wanted.mix}`;
  const render = async () => {
    remember({ room: "exercise", ...wanted });
    const session = sessions.get(key());
    const content = await view(session).catch((error) =>
      [refusal(error), h("button", { type: "button", class: "main-button", onclick: render }, "Try again")]);
    place.replaceChildren(...content);
    if (session) place.querySelector("h2").focus({ preventScroll: false });
  };
  const view = async (session) => {
    if (!session) return intro();
    if (session.open) return reveal(library, session, render);
    return session.answered.length < session.rows.length && !session.ended
      ? reading(library, session, render, again) : summary(library, session, again);
  };
  const begin = () => {
    const rows = drawn(library, wanted.seed, Number(wanted.count), wanted.mix);
    sessions.set(key(), { rows, answered: [], open: false, ...wanted });
    return render();
  };
  const again = () => {
    sessions.delete(key());
    return render();
  };
  const intro = () => {
    const seed = h("input", { type: "number", min: "1", max: String(LARGEST_SEED), value: String(wanted.seed),
      "aria-label": "Number of the set",
      onchange: () => {
        set("seed")(Math.min(Math.max(Math.round(seed.valueAsNumber) || 1, 1), LARGEST_SEED));
        seed.value = wanted.seed;
      } });
    // The control that was changed keeps the focus, unless a set is opened that was begun before.
    const set = (name) => (value) => {
      wanted[name] = value;
      if (sessions.has(key())) render();
      else remember({ room: "exercise", ...wanted });
    };
    return [heading("Read a set of radiographs, then see who was right"),
      h("p", {}, "You will see radiographs of the official test split, one after the other, without their labels. Say "
        + "normal or pneumonia, how sure you are, and click where you see it. Then come the label, the networks, and "
        + "where they looked. The same set number gives the same cases in every browser: share the link, and a class "
        + "reads the same set."),
      h("p", { class: "side-note" }, "What you answer stays in this page. It is not sent to the server, and gone when "
        + "you close the page."),
      h("div", { class: "t-filters" }, h("label", {}, h("span", {}, "Set number"), seed),
        h("button", { type: "button", class: "quiet-button", onclick: () => {
          set("seed")(1 + Math.floor(Math.random() * LARGEST_SEED));
          seed.value = wanted.seed;
        } }, "another"),
        choice("Cases", COUNTS, wanted.count, set("count")), choice("Mix", MIXES, wanted.mix, set("mix"))),
      h("p", { class: "t-steps" }, h("button", { type: "button", class: "main-button", onclick: begin }, "Start"),
        linkButton("Copy link to this set"))];
  };
  await render();
}

const heading = (text) => h("h2", { tabindex: "-1" }, text);

async function reading(library, session, render, again) {
  const number = session.answered.length, row = session.rows[number];
  const source = await library.unnamed(row.id);
  const answer = { row, called: "", sure: 0.8, place: null };
  const stage = h("div", { class: "t-read", tabindex: "0", role: "application",
    "aria-label": "Radiograph. Click, or press the arrow keys, to mark where you see the pneumonia; Delete removes the "
      + "mark." },
  film(library, source, { aspect: row.aspect, alt: `Radiograph ${number + 1}` }));
  const picture = stage.firstChild;
  const said = h("p", { class: "side-note", role: "status" },
    "No place is marked. A click on the radiograph marks one.");
  const mark = h("span", { class: "t-mark" });
  const put = (at) => {
    answer.place = at;
    if (at) {
      mark.style.left = `${at.x * 100}%`;
      mark.style.top = `${at.y * 100}%`;
      picture.append(mark);
    } else mark.remove();
    said.textContent = at
      ? `Marked at ${percent(at.x, 0)} from the left and ${percent(at.y, 0)} from the top.` : "No place is marked.";
  };
  const bounded = (value) => Math.min(Math.max(value, 0), 1);
  stage.addEventListener("click", (event) => {
    const frame = picture.getBoundingClientRect();
    const at = { x: (event.clientX - frame.left) / frame.width, y: (event.clientY - frame.top) / frame.height };
    if (at.x >= 0 && at.x <= 1 && at.y >= 0 && at.y <= 1) put(at);
  });
  stage.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 0.1 : 0.02;
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Delete" || event.key === "Backspace") put(null);
    else if (!move) return;
    else {
      const from = answer.place ?? { x: 0.5, y: 0.5 };
      put({ x: bounded(from.x + step * move[0]), y: bounded(from.y + step * move[1]) });
    }
    event.preventDefault();
  });
  const submit = h("button", { type: "button", class: "main-button", disabled: true, onclick: () => {
    submit.disabled = true;
    URL.revokeObjectURL(source);
    session.answered.push(answer);
    session.open = true;
    render();
  } }, "Answer");
  const stop = h("button", { type: "button", class: "quiet-button", onclick: () => {
    URL.revokeObjectURL(source);
    session.ended = true;
    if (number) render();
    else again();
  } }, number ? "Stop and see how you did" : "Choose another set");
  return [heading(`Case ${number + 1} of ${session.rows.length}`),
    h("div", { class: "t-columns" }, h("div", {}, stage, said),
      h("div", { class: "t-form" },
        choice("What do you see?", [[NORMAL, "normal"], [PNEUMONIA, "pneumonia"]], "", (value) => {
          answer.called = value;
          submit.disabled = false;
        }),
        choice("How sure are you?", SURE.map(([value, text]) => [value, `${text} (${percent(Number(value), 0)})`]),
          "0.8", (value) => { answer.sure = Number(value); }),
        submit, stop))];
}

const probabilityOf = (answer) => (answer.called === PNEUMONIA ? answer.sure : 1 - answer.sure);
const isRight = (answer) => answer.called === answer.row.label;

async function reveal(library, session, render) {
  const answer = session.answered.at(-1), detail = await library.detail(answer.row.id);
  const last = session.answered.length === session.rows.length;
  const zone = answer.place ? zoneAt(detail.lungs, answer.place.x, answer.place.y) : "";
  answer.zone = answer.place ? zone || "outside" : "";
  const fell = answer.place
    ? ` Your click fell ${zone ? `in the ${zoneWords(zone)}` : zoneWords(zone)}; right is the patient\u2019s right.`
    : "";
  return [heading(`${isRight(answer) ? "\u2713 Right" : "\u2715 Wrong"}: the label is ${labelWords(answer.row)}.`),
    h("p", {}, `You said ${answer.called === PNEUMONIA ? "pneumonia" : "normal"}, `
      + `${percent(answer.sure, 0)} sure.${fell}`),
    h("p", { class: "t-steps" }, h("button", { type: "button", class: "main-button", onclick: () => {
      session.open = false;
      render();
    } }, last ? "See how you did" : "Next case"), h("span", { class: "quiet" }, answer.row.id)),
    await answers(library, answer.row, detail, "balanced", answer.place)];
}

const share = (count, of) => (of ? withInterval(count / of, wilson(count, of)) : "\u2013");
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

async function summary(library, session, again) {
  const { answered } = session;
  const readers = [["you", (answer) => answer.called, probabilityOf],
    ...["together", ...library.names].map((name) => [library.title(name),
      ({ row }) => decide(row.probabilities[name], library.threshold(name)), ({ row }) => row.probabilities[name]])];
  const rows = readers.map(([title, called, value]) => {
    const ill = answered.filter(({ row }) => isIll(row)), well = answered.filter(({ row }) => !isIll(row));
    const found = ill.filter((answer) => called(answer) === PNEUMONIA).length;
    const cleared = well.filter((answer) => called(answer) === NORMAL).length;
    const right = found + cleared;
    return [title, share(found, ill.length), share(cleared, well.length), share(right, answered.length),
      brier(answered.map((answer) => [value(answer), isIll(answer.row)])).toFixed(3),
      `${percent(mean(answered.map(value)), 0)} / ${percent(ill.length / answered.length, 0)}`];
  });
  const sure = SURE.map(([value, text]) => {
    const part = answered.filter((answer) => answer.sure === Number(value)), right = part.filter(isRight).length;
    return [`${text} (${percent(Number(value), 0)})`, String(part.length), share(right, part.length)];
  });
  const wrong = answered.filter((answer) => !isRight(answer));
  const place = h("div", { class: "t-again", role: "region", "aria-label": "The chosen case", "aria-live": "polite" });
  const open = async (answer) => {
    const called = answer.called === PNEUMONIA ? "pneumonia" : "normal";
    place.replaceChildren(h("h3", {}, `${answer.row.id}: ${labelWords(answer.row)}; you said ${called}`),
      await answers(library, answer.row, await library.detail(answer.row.id), "balanced", answer.place));
    place.scrollIntoView({ block: "nearest" });
  };
  const file = `pneumo_set_${session.seed}_${session.count}_${session.mix}.csv`;
  return [heading("How you read, beside the networks"),
    table("On these cases, with 95 % intervals", ["", "sensitivity", "specificity", "accuracy",
      "Brier score", "mean probability of pneumonia / share that had it"], rows),
    session.ended ? h("p", {}, `You stopped after ${answered.length} of ${session.rows.length} cases.`) : "",
    h("p", { class: "side-note" }, `So few cases (${answered.length}) say little: the intervals are wide, and most differences `
      + "mean nothing. The Brier score is the mean squared distance of the probability from what was there: 0 is "
      + "perfect, 0.25 is what always saying 50 % gets."),
    table("Your calibration: how often you were right", ["you were sure", "cases", "right"], sure),
    h("p", { class: "t-steps" },
      h("button", { type: "button", class: "main-button", onclick: () => download(file, report(library, session)) },
        "Download the result (CSV)"),
      h("button", { type: "button", class: "quiet-button", onclick: again }, "Read the set again"),
      linkButton("Copy link to this set")),
    h("h3", {}, wrong.length
      ? `The ${wrong.length === 1 ? "case" : `${wrong.length} cases`} that you got wrong, again`
      : "You got no case wrong."),
    h("div", { class: "t-grid small" }, wrong.map((answer) => h("button",
      { type: "button", class: `t-case ${isIll(answer.row) ? "missed" : "alarm"}`, onclick: () => open(answer) },
      thumbnail(library, answer.row, ""), h("strong", {}, isIll(answer.row) ? "\u2715 missed" : "\u26a0 false alarm"),
      h("span", {}, labelWords(answer.row)),
      h("span", { class: "quiet" }, `networks together: ${probability(answer.row.probabilities.together)}`)))),
    place];
}

function report(library, session) {
  const names = ["together", ...library.names];
  return [["number", "case", "label", "subtype", "answer", "sure", "right", "x", "y", "zone", ...names],
    ...session.answered.map((answer, index) => [index + 1, answer.row.id, answer.row.label, answer.row.subtype,
      answer.called, answer.sure, isRight(answer), answer.place?.x.toFixed(4), answer.place?.y.toFixed(4), answer.zone,
      ...names.map((name) => answer.row.probabilities[name])])];
}
