// Outlines worked on as a small picture: paint, rub out, then trace the half-covered line back to outlines.
// Finer than the image's pixels, so that what is not touched keeps its place within hundredths of a pixel.

import { perimeter, signedArea } from "./shapes.js";

const SIDE = 112; // wanted picture size, in its own pixels
const FINEST = 8; // per image pixel
const MOST = 2048;
const HALF = 127.5;

export class Raster {
  // bounds: [x0, y0, x1, y1] that the work stays in, in image px; imageSize: outlines end at its edges.
  constructor(bounds, { width, height }) {
    const [x0, y0, x1, y1] = [bounds[0] - 1, bounds[1] - 1, bounds[2] + 1, bounds[3] + 1];
    const side = Math.max(x1 - x0, y1 - y0);
    this.scale = Math.min(Math.max(SIDE / side, 2), FINEST, MOST / side);
    this.x = x0;
    this.y = y0;
    this.limits = [width, height];
    this.width = Math.ceil((x1 - x0) * this.scale) + 2;
    this.height = Math.ceil((y1 - y0) * this.scale) + 2;
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: this.width, height: this.height });
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.context.setTransform(this.scale, 0, 0, this.scale, 1 - x0 * this.scale, 1 - y0 * this.scale);
    this.context.lineJoin = this.context.lineCap = "round";
  }

  inImage(value, index) {
    return Math.min(Math.max(value, 0), this.limits[index % 2]);
  }

  fill(contour, mode = "source-over") {
    this.context.globalCompositeOperation = mode;
    this.context.fill(pathOf(contour, true));
  }

  // mode "source-over" paints, "destination-out" rubs out.
  stroke(line, width, mode, isClosed = false) {
    this.context.globalCompositeOperation = mode;
    this.context.lineWidth = width;
    this.context.stroke(pathOf(line, isClosed));
  }

  // The outer outlines of what is painted, the largest first; specks below a pixel are dropped.
  contours() {
    const { data } = this.context.getImageData(0, 0, this.width, this.height);
    const alpha = new Uint8Array(this.width * this.height);
    for (let i = 0; i < alpha.length; i++) alpha[i] = data[4 * i + 3];
    return traced(alpha, this.width, this.height)
      .map((loop) => loop.map((value, i) => this.inImage((value - 1 + 0.5) / this.scale + (i % 2 ? this.y : this.x), i)))
      .map((contour) => ({ contour, area: signedArea(contour) }))
      .filter(({ area }) => area >= 1)
      .sort((a, b) => b.area - a.area)
      .map(({ contour }) => thinned(contour));
  }
}

function pathOf(points, isClosed) {
  const path = new Path2D();
  path.moveTo(points[0], points[1]);
  for (let i = 2; i < points.length; i += 2) path.lineTo(points[i], points[i + 1]);
  if (points.length === 2) path.lineTo(points[0] + 0.01, points[1]); // a line of no length is not drawn at all
  if (isClosed) path.closePath();
  return path;
}

// For each of the 16 states of a cell's corners (bits: top left, top right, bottom right, bottom left inside) the edges
// that the line goes from and to, with the inside on its right: 0 top, 1 right, 2 bottom, 3 left.
const STEPS = [
  [], [[0, 3]], [[1, 0]], [[1, 3]], [[2, 1]], [[0, 3], [2, 1]], [[2, 0]], [[2, 3]],
  [[3, 2]], [[0, 2]], [[1, 0], [3, 2]], [[1, 2]], [[3, 1]], [[0, 1]], [[3, 0]], [],
]; // prettier-ignore

// Marching squares: closed lines where the level crosses one half, in sample coordinates.
// An edge's number is twice its first sample's, plus one where it runs down instead of right.
function traced(alpha, width, height) {
  const next = new Map();
  const edge = [0, 3, 2 * width, 1]; // top, right, bottom, left, from twice the top left sample
  for (let y = 0; y + 1 < height; y++) {
    for (let i = y * width; i + 1 < (y + 1) * width; i++) {
      const state =
        (alpha[i] > HALF ? 1 : 0) |
        (alpha[i + 1] > HALF ? 2 : 0) |
        (alpha[i + width + 1] > HALF ? 4 : 0) |
        (alpha[i + width] > HALF ? 8 : 0);
      if (state === 0 || state === 15) continue;
      for (const [from, to] of STEPS[state]) next.set(2 * i + edge[from], 2 * i + edge[to]);
    }
  }
  return [...loopsOf(next, (key) => crossing(alpha, width, key))];
}

function* loopsOf(next, pointOf) {
  for (const [start] of next) {
    const loop = [];
    for (let key = start; next.has(key); ) {
      loop.push(...pointOf(key));
      const after = next.get(key);
      next.delete(key);
      key = after;
    }
    if (loop.length >= 6) yield loop;
  }
}

// Where the level is one half between the two samples of an edge.
function crossing(alpha, width, key) {
  const isVertical = key % 2 === 1;
  const sample = key >> 1;
  const x = sample % width,
    y = (sample - x) / width;
  const a = alpha[sample],
    b = alpha[sample + (isVertical ? width : 1)];
  const share = (HALF - a) / (b - a);
  return isVertical ? [x, y + share] : [x + share, y];
}

// Fewer corners, evenly taken: two per image px, and enough that a circle loses nothing that counts.
function thinned(contour) {
  const corners = contour.length / 2;
  const wanted = Math.min(Math.max(128, Math.round(2 * perimeter(contour))), 3000);
  if (corners <= wanted) return contour;
  const kept = [];
  for (let k = 0; k < wanted; k++) {
    const i = 2 * Math.floor((k * corners) / wanted);
    kept.push(contour[i], contour[i + 1]);
  }
  return kept;
}
