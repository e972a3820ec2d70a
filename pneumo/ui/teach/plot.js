// Curves from 0 to 1, drawn as SVG.

import { h, svg } from "./dom.js";

const SIZE = 260, LEFT = 44, TOP = 10, BOTTOM = 40, RIGHT = 12;
const COLOURS = ["#0f766e", "#b8480a", "#0072b2", "#7c3aed"];
const DASHES = ["", "7 3", "2 3", "9 3 2 3"];
const WIDTH = LEFT + SIZE + RIGHT, HEIGHT = TOP + SIZE + BOTTOM;

const across = (x) => LEFT + x * SIZE;
const down = (y) => TOP + (1 - y) * SIZE;

/**
 * A square plot.
 *
 * `lines` have points [x, y], and a name where there are several; `dots` marks the points themselves.
 */
export function plot({ title, x, y, lines, diagonal = false, dots = false }) {
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1];
  const dot = svg("circle", { r: 6, class: "t-dot", visibility: "hidden" });
  const label = `${title}: ${y} against ${x}`;
  const element = svg("svg", { class: "t-plot", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    ticks.map((tick) => [
      svg("line", { x1: across(tick), x2: across(tick), y1: down(0), y2: down(1), class: "grid" }),
      svg("line", { x1: across(0), x2: across(1), y1: down(tick), y2: down(tick), class: "grid" }),
      svg("text", { x: across(tick), y: down(0) + 15, "text-anchor": "middle" }, String(tick)),
      svg("text", { x: LEFT - 6, y: down(tick) + 4, "text-anchor": "end" }, String(tick)),
    ]),
    diagonal && svg("line", { x1: across(0), y1: down(0), x2: across(1), y2: down(1), class: "diagonal" }),
    lines.map(({ points, intervals }, index) => [
      (intervals ?? []).map(([at, low, high]) => svg("line", { x1: across(at), x2: across(at), y1: down(low),
        y2: down(high), stroke: COLOURS[index], "stroke-width": 1 })),
      svg("polyline", { points: points.map(([a, b]) => `${across(a).toFixed(1)},${down(b).toFixed(1)}`).join(" "),
        fill: "none", stroke: COLOURS[index], "stroke-width": 2, "stroke-dasharray": DASHES[index] }),
      dots && points.map(([a, b]) => svg("circle", { cx: across(a), cy: down(b), r: 3, fill: COLOURS[index] })),
    ]),
    dot,
    svg("text", { x: across(0.5), y: HEIGHT - 6, "text-anchor": "middle" }, x),
    svg("text", { x: 12, y: down(0.5), "text-anchor": "middle", transform: `rotate(-90 12 ${down(0.5)})` }, y));
  const point = (a, b) => {
    if (!Number.isFinite(a + b)) {
      dot.setAttribute("visibility", "hidden");
      return;
    }
    dot.setAttribute("cx", across(a));
    dot.setAttribute("cy", down(b));
    dot.setAttribute("visibility", "visible");
  };
  return { element, point };
}

/** Which line is which. */
export function key(names) {
  return h("p", { class: "t-key" }, names.map((name, index) => h("span", {},
    svg("svg", { width: 28, height: 8, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 28, y1: 4, y2: 4,
      stroke: COLOURS[index], "stroke-width": 2, "stroke-dasharray": DASHES[index] })), ` ${name}`)));
}
