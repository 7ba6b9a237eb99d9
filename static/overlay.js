// Draws the droplets: one path per style, only what is on screen, with fewer corners the smaller a droplet appears.
// The drawing is kept with a margin around the screen, so panning only moves it.

import { significant } from "./format.js";
import { SHADOW, STYLES, styleOf } from "./palette.js";

const MARGIN = 0.35; // of the screen, on each side
const MANY = 1500; // above this, outlines go without their dark edge
const LABELS_MOST = 600;
const SLOW_MS = 8;
const SETTLE_MS = 120;

export class Overlay {
  constructor(stage, annotation, preferences) {
    this.stage = stage;
    this.annotation = annotation;
    this.preferences = preferences;
    this.isHidden = false;
    this.buffer = document.createElement("canvas");
    this.drawn = null;
    this.isSettled = false;
    this.timer = null;
    stage.setPainter(1, (context) => this.paint(context));
    for (const kind of ["droplets", "filters", "calibration"])
      annotation.addEventListener(kind, () => this.invalidate());
    preferences.addEventListener("change", () => this.invalidate());
  }

  invalidate() {
    this.drawn = null;
    this.stage.redraw(1);
  }

  // Hides everything while a key is held, to see the image under it.
  setHidden(hidden) {
    if (this.isHidden === hidden) return;
    this.isHidden = hidden;
    this.stage.redraw(1, 2);
  }

  get isVisible() {
    return !this.isHidden && this.preferences.get("style") !== "none";
  }

  paint(context) {
    if (!this.isVisible || !this.annotation.droplets.length) return;
    if (this.canStretch()) this.renderSoon();
    else if (!this.canReuse()) this.render();
    this.copy(context);
  }

  // Puts the kept drawing where the present view has it, stretched if the zoom differs.
  copy(context) {
    const { marginX, marginY, ratio, view } = this.drawn;
    const now = this.stage.view;
    const zoom = now.scale / view.scale;
    const snap = (value) => (zoom === 1 ? Math.round(value * ratio) / ratio : value);
    const x = snap(now.x - view.x * zoom - marginX * zoom),
      y = snap(now.y - view.y * zoom - marginY * zoom);
    context.globalAlpha = this.preferences.get("opacity");
    context.drawImage(this.buffer, x, y, (this.buffer.width / ratio) * zoom, (this.buffer.height / ratio) * zoom);
    context.globalAlpha = 1;
  }

  isSameScreen() {
    const { drawn, stage } = this;
    return (
      drawn !== null && drawn.width === stage.width && drawn.height === stage.height && drawn.ratio === stage.ratio
    );
  }

  canReuse() {
    const { drawn, stage } = this;
    return (
      this.isSameScreen() &&
      drawn.view.scale === stage.view.scale &&
      Math.abs(stage.view.x - drawn.view.x) <= drawn.marginX &&
      Math.abs(stage.view.y - drawn.view.y) <= drawn.marginY
    );
  }

  // While zooming, a drawing that took long is stretched and made anew once the zoom rests.
  canStretch() {
    const zoom = this.isSameScreen() ? this.stage.view.scale / this.drawn.view.scale : 1;
    return zoom !== 1 && zoom > 0.2 && zoom < 5 && this.drawn.costMs > SLOW_MS && !this.isSettled;
  }

  renderSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.isSettled = true;
      this.stage.redraw(1);
    }, SETTLE_MS);
  }

  render() {
    const began = performance.now();
    this.isSettled = false;
    this.draw();
    this.drawn.costMs = performance.now() - began;
  }

  draw() {
    const { width, height, ratio, view } = this.stage;
    const marginX = Math.round(width * MARGIN),
      marginY = Math.round(height * MARGIN);
    this.drawn = { view, width, height, ratio, marginX, marginY };
    this.buffer.width = Math.round((width + 2 * marginX) * ratio);
    this.buffer.height = Math.round((height + 2 * marginY) * ratio);
    const context = this.buffer.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, marginX * ratio, marginY * ratio);
    const visible = this.visibleDroplets(marginX, marginY);
    this.pen = penFor(visible, view.scale);
    for (const [name, droplets] of grouped(visible)) {
      if ((name === "filtered" || name === "user") && !this.preferences.get("showExcluded")) continue;
      this.drawGroup(context, STYLES[name], droplets);
    }
    if (this.preferences.get("labels") !== "none") this.drawLabels(context, visible);
  }

  visibleDroplets(marginX, marginY) {
    const { view, width, height } = this.stage;
    const from = view.toImage(-marginX, -marginY),
      to = view.toImage(width + marginX, height + marginY);
    const rect = [from.x, from.y, to.x, to.y];
    const { imageWidth, imageHeight } = this.stage;
    const showsAll = rect[0] <= 0 && rect[1] <= 0 && rect[2] >= imageWidth && rect[3] >= imageHeight;
    return showsAll ? this.annotation.droplets : this.annotation.grid.inRect(rect);
  }

  drawGroup(context, { color, dash }, droplets) {
    const { width, hasEdge, dashScale } = this.pen;
    const path = outlines(droplets, this.stage.view);
    context.lineJoin = "round";
    if (this.preferences.get("style") === "fill") {
      context.fillStyle = color;
      context.globalAlpha = 0.28;
      context.fill(path);
      context.globalAlpha = 1;
    }
    context.setLineDash(dash.map((length) => length * dashScale));
    if (hasEdge) {
      context.strokeStyle = SHADOW;
      context.lineWidth = width + 1.5;
      context.stroke(path);
    }
    context.strokeStyle = color;
    context.lineWidth = width;
    context.stroke(path);
    context.setLineDash([]);
  }

  drawLabels(context, droplets) {
    const { view } = this.stage;
    const { factor } = this.annotation.length;
    const byId = this.preferences.get("labels") === "id";
    const roomy = droplets.filter((droplet) => droplet.diameter_px * view.scale > 26).slice(0, LABELS_MOST);
    context.font = "600 11px -apple-system, 'Segoe UI', Roboto, Arial, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = "rgba(0, 0, 0, 0.7)";
    context.fillStyle = "#fff";
    for (const droplet of roomy) {
      const { x, y } = view.toScreen(droplet.center_x_px, droplet.center_y_px);
      const text = byId ? String(droplet.id) : significant(droplet.diameter_px * factor, 3);
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    }
  }
}

// Thinner lines for smaller droplets, and a dark edge only where there is room for it.
function penFor(droplets, scale) {
  const step = Math.max(1, Math.floor(droplets.length / 200));
  const sizes = droplets.filter((_, index) => index % step === 0).map(({ diameter_px: d }) => d * scale);
  const typical = sizes.sort((a, b) => a - b)[sizes.length >> 1] ?? 40;
  const within = (low, value, high) => Math.min(Math.max(value, low), high);
  return {
    width: within(1, typical / 16, 2.25),
    dashScale: within(0.5, typical / 60, 1.25),
    hasEdge: droplets.length <= MANY && typical > 18,
  };
}

function grouped(droplets) {
  const groups = new Map(Object.keys(STYLES).map((name) => [name, []]));
  for (const droplet of droplets) groups.get(styleOf(droplet)).push(droplet);
  return [...groups].filter(([, members]) => members.length);
}

// One path of many outlines, in screen coordinates.
export function outlines(droplets, view) {
  const path = new Path2D();
  const { scale, x, y } = view;
  for (const { contour, bounds } of droplets) {
    const corners = contour.length / 2;
    const around = Math.PI * Math.max(bounds[2] - bounds[0], bounds[3] - bounds[1]) * scale;
    const wanted = Math.max(8, around / 3);
    const step = Math.max(1, Math.floor(corners / wanted)) * 2;
    path.moveTo(contour[0] * scale + x, contour[1] * scale + y);
    for (let i = step; i < contour.length; i += step) path.lineTo(contour[i] * scale + x, contour[i + 1] * scale + y);
    // Not closePath: in Chromium it takes longer with every outline that the path holds already.
    path.lineTo(contour[0] * scale + x, contour[1] * scale + y);
  }
  return path;
}
