// A small plot with one line that can be dragged or moved by the arrow keys: bars, points and curves by uPlot.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { element } from "./dom.js";
import { significant } from "./format.js";

const FONT = "11px -apple-system, 'Segoe UI', Roboto, Arial, sans-serif";
const KEY_STEPS = 200; // an arrow key moves the line by this part of the axis

// spec: {x, series: [{values, kind: "bars" | "points" | "curve", color}], xLabel, yLabel, yFromZero, label,
//        line: {axis: "x" | "y", value, band: [low, high] | null, label, isFixed, onMove(value), onEnd(value)} | null}
// A color is the name of a custom property, such as "--plot-included".
export class AssayChart {
  constructor(root, { height = 150 } = {}) {
    this.root = root;
    this.height = height;
    this.plot = null;
    this.spec = null;
    this.drag = null;
    this.keyTimer = null;
    this.handle = element("div", { class: "chart-line" });
    this.handle.addEventListener("pointerdown", (event) => this.startDrag(event));
    this.handle.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.resize()).observe(root);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.rebuild());
    window.addEventListener("themechange", () => this.rebuild());
  }

  show(spec) {
    const isMoved = this.drag || this.keyTimer;
    if (isMoved && spec.line) spec.line.value = this.spec.line.value;
    this.spec = spec;
    this.root.setAttribute("role", spec.line && !spec.line.isFixed ? "group" : "img"); // an image holds nothing to operate
    this.root.setAttribute("aria-label", spec.label);
    if (isMoved) return; // drawn anew once the line rests
    this.rebuild();
  }

  // Changes values and the line, but no axis: for a line that is being moved.
  update(series) {
    this.plot?.setData([this.spec.x, ...series.map(({ values }) => values)], false);
    this.plot?.redraw();
  }

  rebuild() {
    if (!this.spec) return;
    const hasFocus = document.activeElement === this.handle;
    this.plot?.destroy();
    const { spec } = this;
    const data = [spec.x, ...spec.series.map(({ values }) => values)];
    this.plot = new uPlot(this.options(), data, this.root);
    this.placeLine();
    if (hasFocus) this.handle.focus();
  }

  options() {
    const { spec } = this;
    const style = getComputedStyle(this.root);
    this.color = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: this.color("--plot-text"), font: FONT, labelFont: FONT, ticks: { show: false }, labelSize: 16 };
    const grid = { stroke: this.color("--plot-grid"), width: 1 };
    return {
      width: this.root.clientWidth || 320,
      height: this.height,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 12, 0, 0],
      scales: { x: { time: false, range: (_, low, high) => this.range("x", low, high) }, y: { range: (_, low, high) => this.range("y", low, high) } },
      axes: [
        { ...axis, grid: { show: false }, size: 24, gap: 4, space: 52, label: spec.xLabel, values: (_, ticks) => ticks.map(String) },
        { ...axis, grid, size: 40, gap: 4, space: 28, label: spec.yLabel },
      ],
      series: [{}, ...spec.series.map((each) => this.series(each))],
      hooks: { drawClear: [(plot) => this.drawBand(plot)], draw: [() => this.placeLine()] },
    };
  }

  series({ kind, color }) {
    const fill = this.color(color);
    if (kind === "points") return { paths: () => null, points: { show: true, size: 4, width: 0, fill, stroke: fill } };
    if (kind === "curve") return { stroke: fill, width: 2, points: { show: false } };
    const paths = this.spec.barWidth ? barsOfWidth(this.spec.barWidth) : barsBetween(this.spec.barsAreCentred);
    return { paths, points: { show: false }, fill, stroke: "transparent", width: 0 };
  }

  range(axis, low, high) {
    const { line, yFromZero, barsAreCentred } = this.spec;
    let from = low ?? 0,
      to = high ?? 1;
    if (line?.axis === axis) [from, to] = [Math.min(from, line.value), Math.max(to, line.value)];
    // Between ends that only rounding sets apart, uPlot would number without end.
    const span = to - from > 1e-9 * Math.max(Math.abs(from), Math.abs(to)) ? to - from : 1;
    if (axis === "x") return barsAreCentred ? [from - 0.6, to + 0.6] : [from, from + span];
    const margin = 0.06 * span;
    return [yFromZero ? 0 : from - margin, to + margin];
  }

  // --- the line ---

  placeLine() {
    const { line } = this.spec;
    this.handle.hidden = !line;
    if (!line || !this.plot) return;
    const over = this.plot.over;
    if (this.handle.parentElement !== over) over.append(this.handle);
    this.handle.dataset.axis = line.axis;
    const at = this.plot.valToPos(line.value, line.axis);
    this.handle.style.left = line.axis === "x" ? `${at}px` : "0";
    this.handle.style.top = line.axis === "y" ? `${at}px` : "0";
    if (!line.isFixed) this.nameLine(line);
  }

  // What a screen reader says of the line as a slider.
  nameLine(line) {
    const { min, max } = this.plot.scales[line.axis];
    const text = significant(line.value, 4);
    this.handle.setAttribute("role", "slider");
    this.handle.tabIndex = 0;
    const said = { "aria-label": line.label, "aria-valuemin": min, "aria-valuemax": max, "aria-valuenow": line.value, "aria-valuetext": text };
    for (const [name, value] of Object.entries(said)) this.handle.setAttribute(name, value);
    this.handle.setAttribute("aria-orientation", line.axis === "x" ? "horizontal" : "vertical");
    this.handle.title = `${line.label}: ${text}. Drag, or use the arrow keys`;
  }

  drawBand(plot) {
    const { line } = this.spec;
    if (!line?.band || line.axis !== "y") return;
    const [low, high] = line.band.map((value) => plot.valToPos(value, "y", true));
    plot.ctx.save();
    plot.ctx.fillStyle = this.color("--plot-grid");
    plot.ctx.globalAlpha = 0.6;
    plot.ctx.fillRect(plot.bbox.left, high, plot.bbox.width, Math.max(low - high, 0));
    plot.ctx.restore();
  }

  startDrag(event) {
    const { line } = this.spec;
    if (!line || line.isFixed || event.button !== 0) return;
    event.preventDefault();
    this.handle.focus();
    this.handle.setPointerCapture(event.pointerId);
    const ended = new AbortController();
    const box = this.plot.over.getBoundingClientRect();
    const at = (move) => this.plot.posToVal(line.axis === "x" ? move.clientX - box.left : move.clientY - box.top, line.axis);
    this.drag = ended;
    const end = (isDone) => {
      ended.abort();
      this.drag = null;
      // Of the spec shown by now: numbers may have come while the line was held.
      const { line } = this.spec;
      if (isDone && line) line.onEnd(line.value);
      else this.rebuild();
    };
    this.handle.addEventListener("pointermove", (move) => this.moveTo(at(move)), { signal: ended.signal });
    this.handle.addEventListener("pointerup", () => end(true), { signal: ended.signal });
    this.handle.addEventListener("pointercancel", () => end(false), { signal: ended.signal });
  }

  moveTo(value) {
    const { line } = this.spec;
    const { min, max } = this.plot.scales[line.axis];
    line.value = Math.min(Math.max(value, min), max);
    this.placeLine();
    line.onMove(line.value);
  }

  key(event) {
    const { line } = this.spec;
    const sign = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
    if (!line || line.isFixed || !sign) return;
    event.preventDefault();
    event.stopPropagation();
    const { min, max } = this.plot.scales[line.axis];
    this.moveTo(line.value + ((max - min) / KEY_STEPS) * sign * (event.shiftKey ? 10 : 1));
    clearTimeout(this.keyTimer);
    this.keyTimer = setTimeout(() => {
      this.keyTimer = null;
      this.spec.line?.onEnd(this.spec.line.value);
    }, 350);
  }

  resize() {
    if (!this.plot || !this.root.clientWidth) return;
    this.plot.setSize({ width: this.root.clientWidth, height: this.height });
    this.placeLine();
  }
}

// Bars around each x, or from each x to the next.
function barsBetween(areCentred) {
  return uPlot.paths.bars({ align: areCentred ? 0 : 1, size: [areCentred ? 0.6 : 1, Infinity], gap: 1 });
}

// Bars from x to x + width, where other series have values in between.
function barsOfWidth(width) {
  return (plot, index) => {
    const fill = new Path2D();
    const floor = plot.valToPos(0, "y", true);
    plot.data[index].forEach((value, at) => {
      if (!value) return;
      const x = plot.data[0][at];
      const left = plot.valToPos(x, "x", true),
        right = plot.valToPos(x + width, "x", true);
      const top = plot.valToPos(value, "y", true);
      fill.rect(left, top, Math.max(right - left - 1, 1), floor - top);
    });
    return { fill, stroke: null, flags: 1 };
  };
}
