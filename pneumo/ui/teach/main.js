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
    const { networks, cases: rows, tour: stops, scale, title } = index;
    Object.assign(this, { networks, cases: rows, tour: stops, scale, method: title });
    this.ramp = decodeRamp(index.ramp);
    this.names = Object.keys(index.networks).filter((name) => name !== "together");
    this.byId = new Map(index.cases.map((row) => [row.id, row]));
    this.fetched = new Map();
  }

  title = (name) => this.networks[name].title;
  threshold = (name, point = "balanced") => this.networks[name].thresholds[point];
  options = () => ["together", ...this.names].map((name) => [name, this.title(name)]);
  member = (name) => new URL(`cases/${encodeURIComponent(name)}`, FILES).href;
  image = (id) => this.member(`${id}.jpeg`);
  metrics = () => this.once("metrics", () => read(new URL("metrics.json", FILES)));

  /** Lungs and maps of a case. */
  detail = (id) => this.once(id, () => read(this.member(`${id}.json`)));

  /** A radiograph at an address that tells nothing of it, unlike its name. */
  unnamed = async (id) => URL.createObjectURL(await read(this.image(id), (answer) => answer.blob()));

  /** What is fetched once; a failure is not kept. */
  once(name, make) {
    if (!this.fetched.has(name)) {
      this.fetched.set(name, make().catch((error) => {
        this.fetched.delete(name);
        throw error;
      }));
    }
    return this.fetched.get(name);
  }
}

async function read(address, content = (answer) => answer.json()) {
  const answer = await fetch(address).catch(() => {
    throw new Error("The server could not be reached. Try again.");
  });
  if (answer.ok) return content(answer);
  const said = await answer.json().catch(() => ({}));
  throw new Error(said.error || `The server answered ${answer.status}. Reload the page.`);
}

/** Fill the tab, and keep it in step with the address. */
export async function start(element) {
  const place = h("div", { class: "t-room", tabindex: "-1" });
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

  // Browsers refuse more than some hundred addresses in a few seconds; a slider makes more.
  let late = null;
  const settle = () => {
    if (!late) return;
    clearTimeout(late.timer);
    history.replaceState(null, "", late.address);
    late = null;
  };
  const remember = (state) => {
    clearTimeout(late?.timer);
    late = { address: address(state), timer: setTimeout(settle, 100) };
  };
  const go = async (state) => {
    settle();
    history.pushState(null, "", address(state));
    await render();
    if (root.getBoundingClientRect().top < 0) root.scrollIntoView();
  };
  const links = Object.entries(ROOMS).map(([name, [title]]) => {
    const target = { room: name };
    return [name, h("a", { href: address(target), onclick: (event) => follow(event, target, go) }, title)];
  });
  nav.append(...links.map(([, link]) => link));

  async function render() {
    const number = (drawn += 1);
    const state = { ...Object.fromEntries(new URLSearchParams(location.search)) };
    const room = Object.hasOwn(ROOMS, state.room) ? state.room : "cases";
    for (const [name, link] of links) {
      if (name === room) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    const content = h("div", { class: `t-${room}` });
    try {
      await ROOMS[room][1](content, library, { ...state, room }, { go, remember });
    } catch (error) {
      content.replaceChildren(refusal(error));
    }
    // A slower answer of a room that was left meanwhile is dropped.
    if (number !== drawn) return;
    const held = place.contains(document.activeElement);
    place.replaceChildren(content);
    // Who follows a link by keyboard goes on in what it opened.
    if (held) place.focus({ preventScroll: true });
  }

  addEventListener("popstate", () => {
    clearTimeout(late?.timer);
    late = null;
    if (inRoom()) document.getElementById("teaching-button")?.click();
    render();
  });
  // Another tab of the page has no address of its own; this one has its address again when it is shown again.
  let left = "";
  new ResizeObserver(() => {
    const shown = root.getClientRects().length > 0;
    settle();
    if (!shown && inRoom()) {
      left = location.search;
      history.replaceState(null, "", address({}));
    } else if (shown && left && !inRoom()) {
      history.replaceState(null, "", location.pathname + left);
    }
  }).observe(root);
  await render();
}

const inRoom = () => new URLSearchParams(location.search).has("room");

/** Why a room cannot be shown. */
export function refusal(error) {
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
