// The diameter histogram. Dragging across it keeps that range of diameters: an ordinary filter, with undo.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { byId } from "./dom.js";
import { significant } from "./format.js";
import { withRange } from "./filters.js";
import { histogram } from "./statistics.js";

const HEIGHT = 132;

export class Histogram {
  constructor(annotation, editor) {
    this.annotation = annotation;
    this.editor = editor;
    this.root = byId("histogram");
    this.plot = null;
    this.frame = null;
    for (const kind of ["droplets", "filters", "calibration"]) annotation.addEventListener(kind, () => this.schedule());
    new ResizeObserver(() => this.resize()).observe(this.root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.rebuild());
    window.addEventListener("themechange", () => this.rebuild());
    this.schedule();
  }

  schedule() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.show();
    });
  }

  show() {
    const { droplets } = this.annotation;
    byId("histogram-section").hidden = droplets.length < 2;
    if (droplets.length < 2) return;
    const { unit, factor } = this.annotation.length;
    const bins = histogram(
      droplets.map(({ diameter_px: d }) => d * factor),
      droplets.map(({ included }) => included),
    );
    this.describe(bins, unit);
    // A closing zero makes uPlot's bars span [edge, next edge).
    const data = [bins.edges, [...bins.all, 0], [...bins.included, 0]];
    if (this.plot && this.unit === unit) this.plot.setData(data);
    else this.build(data, unit);
  }

  describe({ edges, included }, unit) {
    const most = Math.max(...included);
    const peak = included.indexOf(most);
    const where = most ? `most lie near ${significant((edges[peak] + edges[peak + 1]) / 2, 3)} ${unit}` : "none is included";
    const text = `Histogram of the diameters from ${significant(edges[0], 3)} to ${significant(edges.at(-1), 3)} ${unit}; ${where}`;
    this.root.setAttribute("aria-label", text);
  }

  build(data, unit) {
    this.plot?.destroy();
    this.unit = unit;
    const style = getComputedStyle(this.root);
    const color = (name) => style.getPropertyValue(name).trim();
    const bars = uPlot.paths.bars({ align: 1, size: [1, Infinity], gap: 1 });
    const axis = {
      stroke: color("--plot-text"),
      font: "11px -apple-system, 'Segoe UI', Roboto, Arial, sans-serif",
      ticks: { show: false },
    };
    this.plot = new uPlot(
      {
        width: this.root.clientWidth || 320,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false, points: { show: false }, drag: { x: !this.editor.isReadOnly, setScale: false } },
        padding: [6, 12, 0, 0],
        scales: { x: { time: false }, y: { range: (_, low, high) => [0, Math.max(high, 1) * 1.05] } },
        axes: [
          { ...axis, grid: { show: false }, size: 24, gap: 4, space: 48, values: (_, ticks) => ticks.map(String) },
          {
            ...axis,
            grid: { stroke: color("--plot-grid"), width: 1 },
            size: (_, labels) => (labels?.some((label) => label.length > 5) ? 52 : 36),
            gap: 4,
            space: 28,
            incrs: [1, 10, 100, 1000, 10000, 100000].flatMap((n) => [n, 2 * n, 5 * n]),
          },
        ],
        series: [
          {},
          { paths: bars, points: { show: false }, fill: color("--plot-excluded"), stroke: "transparent", width: 0 },
          { paths: bars, points: { show: false }, fill: color("--plot-included"), stroke: "transparent", width: 0 },
        ],
        hooks: { setSelect: [(plot) => this.keepRange(plot)] },
      },
      data,
      this.root,
    );
  }

  keepRange(plot) {
    const { left, width } = plot.select;
    if (width < 3) return;
    const { factor } = this.annotation.length;
    const low = plot.posToVal(left, "x") / factor,
      high = plot.posToVal(left + width, "x") / factor;
    plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.editor.setFilters(withRange(this.annotation.filters, "diameter_px", low, high), "filter by diameter");
  }

  rebuild() {
    this.unit = null;
    this.schedule();
  }

  resize() {
    if (this.plot && this.root.clientWidth) this.plot.setSize({ width: this.root.clientWidth, height: HEIGHT });
  }
}
