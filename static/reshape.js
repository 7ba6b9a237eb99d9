// What can be done to outlines: grow, shrink, paint, rub out, merge, split. From contours to contours, in image px.

import { boundsOf } from "./geometry.js";
import { Raster } from "./raster.js";
import { fittedCircle, fittedEllipse, hullOf, withoutSteps } from "./shapes.js";

// An outline moved outwards by some px, or inwards where they are negative; empty where nothing is left.
export function grown(contour, px, imageSize) {
  const raster = new Raster(around(boundsOf(contour), Math.max(px, 0)), imageSize);
  const rim = withoutSteps(contour);
  raster.fill(rim);
  raster.stroke(rim, 2 * Math.abs(px), px > 0 ? "source-over" : "destination-out", true);
  return raster.contours().slice(0, 1);
}

// An outline (or none yet) with a line painted on it or rubbed out; the largest piece first.
export function brushed(contour, line, width, isAdding, imageSize) {
  const start = contour ?? line;
  const bounds = isAdding ? boundsOf([...start, ...line]) : boundsOf(start);
  const raster = new Raster(around(bounds, isAdding ? width / 2 : 0), imageSize);
  if (contour) raster.fill(contour);
  raster.stroke(line, width, isAdding ? "source-over" : "destination-out");
  return raster.contours();
}

// Several outlines as one: their union where they touch, else the hull around them.
export function merged(contours, imageSize) {
  const raster = new Raster(boundsOf(contours.flat()), imageSize);
  for (const contour of contours) raster.fill(contour);
  const pieces = raster.contours();
  return pieces.length > 1 ? [hullOf(contours)] : pieces;
}

// The pieces on both sides of the straight line through two points.
export function split(contour, from, to, imageSize) {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  if (!length) return [contour];
  const bounds = boundsOf(contour);
  const far = 2 * (bounds[2] - bounds[0] + bounds[3] - bounds[1]) + length;
  const [ux, uy] = [(far * (to.x - from.x)) / length, (far * (to.y - from.y)) / length];
  const ends = [from.x - ux, from.y - uy, to.x + ux, to.y + uy];
  const [ax, ay, bx, by] = ends;
  return [1, -1].flatMap((side) => {
    const raster = new Raster(bounds, imageSize);
    raster.fill(contour);
    const shift = [-uy * side, ux * side];
    raster.fill([...ends, bx + shift[0], by + shift[1], ax + shift[0], ay + shift[1]], "destination-out");
    return raster.contours();
  });
}

export const circled = (contour) => [fittedCircle(contour)];
export const ellipsed = (contour) => [fittedEllipse(contour)];

const around = ([x0, y0, x1, y1], px) => [x0 - px, y0 - px, x1 + px, y1 + px];
