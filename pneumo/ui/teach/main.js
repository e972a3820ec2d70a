// The teaching room: its rooms, their addresses, and the library that all of them show.

import { h } from "./dom.js";
import { decodeRamp } from "./film.js";
import * as cases from "./cases.js";
import * as threshold from "./threshold.js";
import * as exercise from "./exercise.js";
import * as compare from "./compare.js";
import * as tour from "./tour.js";

const ROOMS = {
  cases: ["Case library", cases.show],
  threshold: ["Threshold room", threshold.show],
  exercise: ["Reading exercise", exercise.show],
  compare: ["Compare networks", compare.show],
  tour: ["How it can fool you", tour.show],
};
const FILES = new URL("../", import.meta.url);

/** The cases of the bundle, and what of them is fetched only when it is shown. */
class Library {
  constructor(index) {
    Object.assign(this, index);
    this.ramp = decodeRamp(index.ramp);
    this.names = Object.keys(index.networks).filter((name) => name !== "together");
    this.byId = new Map(index.cases.map((row) => [row.id, row]));
    this.details = new Map();
  }

  title = (name) => this.networks[name].title;
  threshold = (name, point = "balanced") => this.networks[name].thresholds[point];
  options = () => ["together", ...this.names].map((name) => [name, this.title(name)]);
  member = (name) => new URL(`cases/${encodeURIComponent(name)}`, FILES).href;
  image = (id) => this.member(`${id}.jpeg`);
  metrics = () => (this.measured ??= read(new URL("metrics.json", FILES)));

  /** Lungs and maps of a case. */
  detail(id) {
    if (!this.details.has(id)) this.details.set(id, read(this.member(`${id}.json`)));
    return this.details.get(id);
  }
}

async function read(address) {
  const answer = await fetch(address);
  if (answer.ok) return answer.json();
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.error || `The server answered ${answer.status}. Reload the page.`);
}

/** Fill the tab, and keep it in step with the address. */
export async function start(element) {
  const place = h("main", { class: "t-room", tabindex: "-1" });
  const nav = h("nav", { class: "t-rooms", "aria-label": "Rooms" });
  const root = h("div", { class: "teach" }, nav, place);
  element.replaceChildren(root);
  let library, drawn = 0;
  try {
    library = new Library(await read(new URL("cases/index.json", FILES)));
  } catch (error) {
    place.append(refusal(error));
    return;
  }

  const go = (state, { replace = false } = {}) => {
    history[replace ? "replaceState" : "pushState"](null, "", address(state));
    return render();
  };
  const remember = (state) => history.replaceState(null, "", address(state));

  async function render() {
    const number = (drawn += 1);
    const state = { ...Object.fromEntries(new URLSearchParams(location.search)) };
    const room = ROOMS[state.room] ? state.room : "cases";
    nav.replaceChildren(...Object.entries(ROOMS).map(([name, [title]]) =>
      h("a", { href: address({ room: name }), "aria-current": name === room ? "page" : null,
        onclick: (event) => follow(event, { room: name }, go) }, title)));
    const content = h("div", { class: `t-${room}` });
    try {
      await ROOMS[room][1](content, library, { ...state, room }, { go, remember });
    } catch (error) {
      content.replaceChildren(refusal(error));
    }
    // A slower answer of a room that was left meanwhile is dropped.
    if (number === drawn) place.replaceChildren(content);
  }

  addEventListener("popstate", render);
  // Another tab of the page has no address of its own.
  document.addEventListener("click", (event) => {
    const tab = event.target.closest?.('button[role="tab"]');
    if (tab && tab.id !== "teaching-button" && new URLSearchParams(location.search).has("room")) {
      history.replaceState(null, "", address({}));
    }
  });
  await render();
}

function refusal(error) {
  return h("section", { class: "exam verdict refused", role: "alert" }, h("h2", {}, "This room cannot be shown."),
    h("p", {}, error.message));
}

/** The address of a state; what Gradio keeps there stays. */
export function address(state) {
  const kept = [...new URLSearchParams(location.search)].filter(([name]) => name.startsWith("__"));
  const own = Object.entries(state).filter(([, value]) => value !== "" && value != null);
  const query = new URLSearchParams([...kept, ...own]).toString();
  return location.pathname + (query ? `?${query}` : "");
}

/** Go where a link leads without loading the page, unless it is to be opened elsewhere. */
export function follow(event, state, go) {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(state);
}

/** A button that copies the address on show. */
export function linkButton(text = "Copy link") {
  const button = h("button", { type: "button", class: "quiet-button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      prompt("Copy this link:", location.href);
    }
    setTimeout(() => (button.textContent = text), 2000);
  } }, text);
  return button;
}
