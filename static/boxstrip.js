// Diameters of the images of a batch beside each other: a box plot per row of the table, all on one axis.

import { compact, significant } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 200,
  HEIGHT = 24;

// The axis on which all images fit: {unit, column, low, high, step}; null without sizes. In µm where all have a scale.
export function sizeAxis(results) {
  const measured = results.filter((result) => result && Number.isFinite(result.q1_diameter_px));
  if (!measured.length) return null;
  const column = measured.every((result) => result.mean_diameter_um !== null) ? "um" : "px";
  const low = Math.min(...measured.map((result) => result[`min_diameter_${column}`]));
  const high = Math.max(...measured.map((result) => result[`max_diameter_${column}`]));
  const step = roundStep(Math.max(high - low, high / 100) / 4);
  const unit = column === "um" ? "µm" : "px";
  const from = Math.floor(low / step) * step;
  return { unit, column, step, low: from, high: Math.max(Math.ceil(high / step) * step, from + step) };
}

// The 1, 2 or 5 times a power of ten that is at least the value.
function roundStep(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value * (1 - 1e-9));
}

export function ticksOf({ low, high, step }) {
  const n = Math.round((high - low) / step);
  return Array.from({ length: n + 1 }, (_, index) => compact(low + index * step));
}

// Least, first quartile, median, third quartile and largest in the unit of the axis; null where there are none.
function fiveNumbers(result, { column }) {
  const values = ["min", "q1", "median", "q3", "max"].map((name) => result?.[`${name}_diameter_${column}`]);
  return values.every(Number.isFinite) ? values : null;
}

function sizesText(numbers, unit) {
  const [least, q1, median, q3, most] = numbers.map((value) => significant(value, 3));
  return `Median ${median} ${unit}; half of the droplets from ${q1} to ${q3}, all from ${least} to ${most}`;
}

// One picture with a sentence for those who do not see it; null where there is nothing to draw.
export function boxPlot(result, axis) {
  const numbers = axis && fiveNumbers(result, axis);
  if (!numbers) return null;
  const at = numbers.map((value) => 2 + ((value - axis.low) / (axis.high - axis.low)) * (WIDTH - 4));
  const [least, q1, median, q3, most] = at;
  const middle = HEIGHT / 2;
  const text = sizesText(numbers, axis.unit);
  const title = node("title", {});
  title.textContent = text;
  return node(
    "svg",
    { class: "box-plot", role: "img", "aria-label": text, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" },
    title,
    line(least, middle, most, middle),
    line(least, middle - 4, least, middle + 4),
    line(most, middle - 4, most, middle + 4),
    node("rect", { x: q1, y: 4, width: Math.max(q3 - q1, 1), height: HEIGHT - 8, rx: 2 }),
    node("line", { class: "median", x1: median, y1: 3, x2: median, y2: HEIGHT - 3 }),
  );
}

const line = (x1, y1, x2, y2) => node("line", { x1, y1, x2, y2 });

function node(tag, attributes, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
