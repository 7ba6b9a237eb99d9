// The filter sliders: two thumbs and two number boxes each, with how many droplets each one turns away right now.

import { activeCount, countByReason, NO_FILTERS, withRange } from "./filters.js";
import { byId, element, passFocusOn, setText } from "./dom.js";
import { compact, count, significant } from "./format.js";

const STEPS = 400;

const ROWS = [
  { column: "diameter_px", title: "Diameter", isLength: true },
  { column: "circularity", title: "Circularity", domain: [0, 1] },
  { column: "solidity", title: "Solidity", domain: [0, 1] },
  { column: "mean_intensity", title: "Mean intensity" },
  { column: "score", title: "Score of the model", domain: [0, 1] },
];
// Less often needed, behind a fold.
const MORE_ROWS = [
  { column: "area_px", title: "Area (px)" },
  { column: "aspect_ratio", title: "Aspect ratio" },
  { column: "edge_distance_px", title: "Distance from the edge (px)" },
  { column: "median_intensity", title: "Median intensity" },
  { column: "min_intensity", title: "Darkest pixel" },
  { column: "max_intensity", title: "Brightest pixel" },
  { column: "sd_intensity", title: "SD of the intensity" },
];

export class FilterView {
  constructor(annotation, editor) {
    this.annotation = annotation;
    this.editor = editor;
    this.before = null; // the filters when a slider began to move
    this.rows = [...ROWS, ...MORE_ROWS].map((row) => this.buildRow(row));
    this.more = element(
      "details",
      { class: "more-filters" },
      element("summary", { text: "More filters" }),
      ...this.rows.slice(ROWS.length).map(({ root }) => root),
    );
    this.edge = this.buildEdge();
    this.reset = element("button", { type: "button", class: "button", text: "Remove all filters" });
    this.reset.addEventListener("click", () => {
      editor.setFilters(NO_FILTERS, "remove all filters");
      passFocusOn(this.reset);
    });
    const [diameter, ...others] = this.rows.slice(0, ROWS.length).map(({ root }) => root);
    byId("filters").append(diameter, this.edge.root, ...others, this.more, this.reset);
    annotation.addEventListener("droplets", () => this.show());
    annotation.addEventListener("filters", () => this.show());
    annotation.addEventListener("calibration", () => this.show());
    this.show();
  }

  buildRow(spec) {
    const range = (name) =>
      element("input", { type: "range", min: 0, max: STEPS, step: 1, "aria-label": `${spec.title}, ${name}` });
    const box = (name) =>
      element("input", {
        type: "number",
        step: "any",
        placeholder: name === "minimum" ? "min" : "max",
        "aria-label": `${spec.title}, ${name}`,
      });
    const row = {
      spec,
      low: range("minimum"),
      high: range("maximum"),
      lowBox: box("minimum"),
      highBox: box("maximum"),
      count: element("span", { class: "filter-count" }),
      unit: element("span", { class: "muted" }),
      bar: element("i"),
    };
    row.root = element(
      "div",
      { class: "filter" },
      element(
        "div",
        { class: "filter-head" },
        element("b", { text: spec.title }),
        row.unit,
        element("span", { class: "spacer" }),
        row.count,
      ),
      element("div", { class: "two-thumbs" }, row.bar, row.low, row.high),
      element(
        "div",
        { class: "filter-boxes" },
        row.lowBox,
        element("span", { class: "muted", text: "to" }),
        row.highBox,
      ),
    );
    for (const input of [row.low, row.high]) {
      input.addEventListener("input", () => this.slide(row, input));
      input.addEventListener("change", () => this.settle(row));
    }
    for (const end of [0, 1]) [row.lowBox, row.highBox][end].addEventListener("change", () => this.type(row, end));
    return row;
  }

  buildEdge() {
    const input = element("input", { type: "checkbox", id: "exclude-edge" });
    const note = element("span", { class: "filter-count" });
    input.addEventListener("change", () =>
      this.editor.setFilters({ ...this.annotation.filters, exclude_edge: input.checked }, "filter by the edge"),
    );
    const label = element("label", { htmlFor: "exclude-edge", text: "Exclude droplets cut by the edge" });
    return {
      input,
      note,
      root: element("div", { class: "filter filter-edge" }, input, label, element("span", { class: "spacer" }), note),
    };
  }

  factor({ spec }) {
    return spec.isLength ? this.annotation.length.factor : 1;
  }

  // What the slider spans, in stored units: the data, widened to the limits in force.
  domain({ spec }) {
    if (spec.domain) return spec.domain;
    const [low, high] = this.annotation.filters.ranges[spec.column] ?? [null, null];
    let min = low ?? Infinity,
      max = high ?? -Infinity;
    for (const droplet of this.annotation.droplets) {
      min = Math.min(min, droplet[spec.column]);
      max = Math.max(max, droplet[spec.column]);
    }
    return min < max ? [min, max] : [0, Math.max(1, Number.isFinite(max) ? max : 1)];
  }

  slide(row, moved) {
    this.before ??= this.annotation.filters;
    row.domain ??= this.domain(row); // held still while a thumb moves
    if (Number(row.low.value) > Number(row.high.value)) {
      if (moved === row.low) row.low.value = row.high.value;
      else row.high.value = row.low.value;
    }
    const [min, max] = row.domain;
    const at = (input) => min + (Number(input.value) / STEPS) * (max - min);
    const low = Number(row.low.value) === 0 ? null : at(row.low);
    const high = Number(row.high.value) === STEPS ? null : at(row.high);
    this.annotation.preview(withRange(this.annotation.filters, row.spec.column, low, high));
  }

  settle(row) {
    row.domain = null;
    const { before } = this;
    this.before = null;
    if (before) this.editor.setFilters(this.annotation.filters, `filter by ${row.spec.title.toLowerCase()}`, before);
  }

  // end: 0 for the minimum, 1 for the maximum. The other one keeps its digits, of which its box shows only some.
  type(row, end) {
    const { spec } = row;
    const box = [row.lowBox, row.highBox][end];
    const limits = [...(this.annotation.filters.ranges[spec.column] ?? [null, null])];
    const before = limits[end];
    limits[end] = box.value.trim() === "" ? null : Number(box.value) / this.factor(row);
    const [low, high] = limits;
    const problem = box.validity.badInput
      ? "type a number, or nothing for no limit"
      : low !== null && high !== null && low > high && "the minimum must not be above the maximum";
    if (problem) {
      box.value = this.text(row, before);
      return this.editor.say(`${spec.title}: ${problem}`);
    }
    this.editor.setFilters(withRange(this.annotation.filters, spec.column, low, high), `filter by ${spec.title.toLowerCase()}`);
  }

  text(row, value) {
    return value === null ? "" : compact(Number(significant(value * this.factor(row), 4)));
  }

  show() {
    const { filters, droplets } = this.annotation;
    const [out, kept] = [countByReason(droplets), countByReason(droplets, "included_although")];
    const told = (...reasons) => outText(total(out, reasons), total(kept, reasons));
    for (const row of this.rows) this.showRow(row, filters, told);
    this.edge.input.checked = filters.exclude_edge;
    setText(this.edge.note, told("touches_edge"));
    if (MORE_ROWS.some(({ column }) => filters.ranges[column])) this.more.open = true; // nothing acts unseen
    const active = activeCount(filters);
    this.reset.disabled = active === 0;
    byId("filter-badge").hidden = active === 0;
    setText(byId("filter-badge"), String(active));
  }

  showRow(row, filters, told) {
    const { column, isLength } = row.spec;
    const [low, high] = filters.ranges[column] ?? [null, null];
    const [min, max] = row.domain ?? this.domain(row);
    const position = (value) => Math.round(((value - min) / (max - min)) * STEPS);
    row.low.value = low === null ? 0 : position(low);
    row.high.value = high === null ? STEPS : position(high);
    row.bar.style.setProperty("--low", row.low.value / STEPS);
    row.bar.style.setProperty("--high", row.high.value / STEPS);
    const factor = this.factor(row);
    const text = (value) => this.text(row, value);
    for (const [input, value, end] of [
      [row.lowBox, low, min],
      [row.highBox, high, max],
    ]) {
      if (document.activeElement !== input) input.value = text(value);
      input.placeholder = significant(end * factor, 3);
    }
    for (const [input, value] of [
      [row.low, low],
      [row.high, high],
    ])
      input.setAttribute("aria-valuetext", value === null ? "no limit" : text(value));
    setText(row.unit, isLength ? this.annotation.length.unit : "");
    setText(row.count, told(`${column}_below`, `${column}_above`));
  }
}

const total = (counts, reasons) => reasons.reduce((sum, reason) => sum + (counts.get(reason) ?? 0), 0);

// kept: those that count although the filter leaves them out.
const outText = (n, kept) =>
  [n ? `${count(n)} out` : null, kept ? `${count(kept)} kept by you` : null].filter(Boolean).join(", ");
