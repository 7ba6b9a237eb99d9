// Draws what changes with every move of the pointer: hovered and selected droplets, the draft and its prompts,
// the rubber band and the scale line.

import { significant } from "./format.js";
import { outlines } from "./overlay.js";
import { DRAFT, HOVERED, NEGATIVE, POSITIVE, SELECTED, SHADOW } from "./palette.js";
import { paintRegions } from "./regionpaint.js";

export class DraftLayer {
  constructor(stage, annotation, draft, overlay) {
    Object.assign(this, { stage, annotation, draft, overlay });
    this.rubber = null; // {kind: "prompt" | "select", box}
    this.line = null; // [from, to]
    this.preview = null;
    this.sketch = null; // {points, corners}: an outline being drawn; points past the corners follow the pointer
    this.regions = [];
    this.brush = null; // {x, y, width, isAdding, line}: the brush under the pointer and the stroke so far
    stage.setPainter(2, (context) => this.paint(context));
    const redraw = () => stage.redraw(2);
    for (const kind of ["hover", "selection", "droplets"]) annotation.addEventListener(kind, redraw);
    draft.addEventListener("change", redraw);
  }

  setRubber(rubber) {
    this.rubber = rubber;
    this.stage.redraw(2);
  }

  // The outline that a click would give; see preview.js.
  setPreview(outline) {
    this.preview = outline;
    this.stage.redraw(2);
  }

  setSketch(sketch) {
    this.sketch = sketch;
    this.stage.redraw(2);
  }

  setBrush(brush) {
    if (!brush && !this.brush) return;
    this.brush = brush;
    this.stage.redraw(2);
  }

  // Where Find looks; see regions.js.
  setRegions(regions) {
    this.regions = regions;
    this.stage.redraw(2);
  }

  setLine(line) {
    this.line = line;
    this.stage.redraw(2);
  }

  paint(context) {
    if (this.overlay.isHidden) return;
    paintRegions(context, this.stage, this.regions);
    this.paintMarked(context);
    this.paintPreview(context);
    this.paintCandidate(context);
    if (this.draft.box) this.paintBox(context, this.draft.box, DRAFT, []);
    for (const point of this.draft.points) this.paintPoint(context, point);
    if (this.rubber) this.paintBox(context, this.rubber.box, this.rubber.kind === "select" ? SELECTED : DRAFT, [5, 4]);
    if (this.sketch) this.paintSketch(context);
    if (this.brush) paintBrush(context, this.stage.view, this.brush);
    if (this.line) this.paintLine(context);
  }

  paintMarked(context) {
    const hovered = this.annotation.get(this.annotation.hovered);
    if (hovered) this.strokeOutlines(context, [hovered], HOVERED, 2);
    const { selected } = this.annotation;
    if (!selected.length) return;
    this.fillOutlines(context, selected, SELECTED, 0.18);
    this.strokeOutlines(context, selected, SELECTED, 2.5);
  }

  // Thinner than a candidate, and dashed where the server would look again, closer.
  paintPreview(context) {
    if (!this.preview) return;
    const path = outlines([this.preview], this.stage.view);
    this.strokeTwice(context, DRAFT, 1.5, () => context.stroke(path), this.preview.isSure ? [] : [4, 4]);
  }

  paintCandidate(context) {
    const { candidate } = this.draft;
    if (!candidate) return;
    this.fillOutlines(context, [candidate], DRAFT, 0.25);
    this.strokeOutlines(context, [candidate], DRAFT, 2.5);
  }

  fillOutlines(context, droplets, color, alpha) {
    context.fillStyle = color;
    context.globalAlpha = alpha;
    context.fill(outlines(droplets, this.stage.view));
    context.globalAlpha = 1;
  }

  strokeOutlines(context, droplets, color, width) {
    const path = outlines(droplets, this.stage.view);
    this.strokeTwice(context, color, width, () => context.stroke(path));
  }

  // First a wider dark edge, so that the line shows on any image.
  strokeTwice(context, color, width, stroke, dash = []) {
    context.lineJoin = "round";
    context.setLineDash([]);
    context.strokeStyle = SHADOW;
    context.lineWidth = width + 2;
    stroke();
    context.setLineDash(dash);
    context.strokeStyle = color;
    context.lineWidth = width;
    stroke();
    context.setLineDash([]);
  }

  paintBox(context, [x0, y0, x1, y1], color, dash) {
    const a = this.stage.view.toScreen(x0, y0),
      b = this.stage.view.toScreen(x1, y1);
    this.strokeTwice(context, color, 1.5, () => context.strokeRect(a.x, a.y, b.x - a.x, b.y - a.y), dash);
  }

  paintSketch(context) {
    const points = this.sketch.points.map(({ x, y }) => this.stage.view.toScreen(x, y));
    const path = new Path2D();
    points.forEach(({ x, y }, index) => (index ? path.lineTo(x, y) : path.moveTo(x, y)));
    this.strokeTwice(context, DRAFT, 2, () => context.stroke(path));
    context.fillStyle = "#fff";
    // The first corner, on which a click closes the outline.
    const size = this.sketch.corners > 2 ? 8 : 5;
    context.fillRect(points[0].x - size / 2, points[0].y - size / 2, size, size);
  }

  // A disc with + or −, so the sign is told by shape as well as by colour; smaller on a small droplet.
  paintPoint(context, { x, y, label }) {
    const at = this.stage.view.toScreen(x, y);
    const room = ((this.draft.candidate?.diameter_px ?? Infinity) * this.stage.view.scale) / 4;
    const radius = Math.min(Math.max(room, 4), 7);
    const arm = radius / 2;
    context.beginPath();
    context.arc(at.x, at.y, radius, 0, 2 * Math.PI);
    context.fillStyle = label ? POSITIVE : NEGATIVE;
    context.fill();
    context.strokeStyle = "#fff";
    context.lineWidth = radius / 4;
    context.stroke();
    context.beginPath();
    context.moveTo(at.x - arm, at.y);
    context.lineTo(at.x + arm, at.y);
    if (label) {
      context.moveTo(at.x, at.y - arm);
      context.lineTo(at.x, at.y + arm);
    }
    context.stroke();
  }

  paintLine(context) {
    const [from, to] = this.line.map(({ x, y }) => this.stage.view.toScreen(x, y));
    const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
    const tick = { x: (-(to.y - from.y) / length) * 6, y: ((to.x - from.x) / length) * 6 };
    const path = new Path2D();
    path.moveTo(from.x, from.y);
    path.lineTo(to.x, to.y);
    for (const end of [from, to]) {
      path.moveTo(end.x - tick.x, end.y - tick.y);
      path.lineTo(end.x + tick.x, end.y + tick.y);
    }
    this.strokeTwice(context, SELECTED, 2, () => context.stroke(path));
    this.paintLength(context, from, to);
  }

  paintLength(context, from, to) {
    const [a, b] = this.line;
    const text = `${significant(Math.hypot(b.x - a.x, b.y - a.y), 4)} px`;
    context.font = "600 12px -apple-system, 'Segoe UI', Roboto, Arial, sans-serif";
    context.textAlign = "center";
    context.lineWidth = 3;
    context.strokeStyle = "rgba(0, 0, 0, 0.75)";
    context.fillStyle = "#fff";
    const x = (from.x + to.x) / 2,
      y = (from.y + to.y) / 2 - 12;
    context.strokeText(text, x, y);
    context.fillText(text, x, y);
  }
}

// The stroke so far, and a circle as wide as the brush.
function paintBrush(context, view, { x, y, width, isAdding, line }) {
  const size = Math.max(width * view.scale, 2);
  if (line) {
    context.beginPath();
    for (let i = 0; i < line.length; i += 2) {
      const at = view.toScreen(line[i], line[i + 1]);
      if (i) context.lineTo(at.x, at.y);
      else context.moveTo(at.x, at.y);
    }
    context.lineJoin = context.lineCap = "round";
    context.globalAlpha = 0.45;
    context.strokeStyle = isAdding ? POSITIVE : NEGATIVE;
    context.lineWidth = size;
    context.stroke();
    context.globalAlpha = 1;
    context.lineCap = "butt";
  }
  const at = view.toScreen(x, y);
  for (const [color, line] of [[SHADOW, 3], ["#fff", 1.25]]) {
    context.beginPath();
    context.arc(at.x, at.y, size / 2, 0, 2 * Math.PI);
    context.setLineDash(isAdding ? [] : [4, 3]);
    context.strokeStyle = color;
    context.lineWidth = line;
    context.stroke();
  }
  context.setLineDash([]);
}
