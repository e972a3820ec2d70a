// A radiograph of the library, with heat and lungs over it.

import { h, svg } from "./dom.js";

const SIDE = 224;

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/**
 * A radiograph at its own proportions.
 *
 * Heat and outline are drawn as `pneumo.render` draws them: values are interpolated, then coloured.
 */
export function film(library, source, { aspect, map, lungs, alt }) {
  const picture = h("img", { src: source, alt, draggable: "false" });
  const parts = [picture];
  if (map?.values) parts.push(heat(map, library.ramp));
  if (lungs) parts.push(outline(lungs));
  return h("div", { class: "t-film", style: `aspect-ratio: ${aspect}` }, parts);
}

/** A radiograph in a gallery. */
export function thumbnail(library, row, alt) {
  return h("img", { src: library.image(row.id), alt, loading: "lazy", decoding: "async", width: "224", height: "224",
    style: `aspect-ratio: ${row.aspect}` });
}

function outline(lungs) {
  const paths = () => [svg("path", { d: lungs.right }), svg("path", { d: lungs.left })];
  return svg("svg",
    { class: "t-outline", viewBox: `0 0 ${SIDE} ${SIDE}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("g", { class: "halo" }, paths()), svg("g", { class: "line" }, paths()));
}

function heat(map, ramp) {
  const canvas = h("canvas", { class: "t-heat", width: SIDE, height: SIDE, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(SIDE, SIDE);
  const levels = bytes(map.values);
  const [rows, columns] = map.shape;
  const [left, top, right, bottom] = map.box.map((edge) => Math.round(edge * SIDE));
  for (let y = Math.max(0, top); y < Math.min(SIDE, bottom); y += 1) {
    const [above, below, down] = between(((y - top + 0.5) * rows) / (bottom - top) - 0.5, rows);
    for (let x = Math.max(0, left); x < Math.min(SIDE, right); x += 1) {
      const [before, after, along] = between(((x - left + 0.5) * columns) / (right - left) - 0.5, columns);
      const first = levels[above * columns + before] * (1 - along) + levels[above * columns + after] * along;
      const second = levels[below * columns + before] * (1 - along) + levels[below * columns + after] * along;
      const level = Math.round(first * (1 - down) + second * down);
      pixels.data.set(ramp.subarray(4 * level, 4 * level + 4), 4 * (y * SIDE + x));
    }
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** The two nearest of some values, and how far a place lies towards the second. */
function between(place, count) {
  const bounded = Math.min(Math.max(place, 0), count - 1);
  const low = Math.floor(bounded);
  return [low, Math.min(low + 1, count - 1), bounded - low];
}

/** The colours of a heatmap. */
export const decodeRamp = bytes;
