// Polygons as flat arrays [x0, y0, x1, y1, …] in image coordinates, and a grid that finds them quickly. Pure.

export function boundsOf(contour) {
  let x0 = Infinity,
    y0 = Infinity,
    x1 = -Infinity,
    y1 = -Infinity;
  for (let i = 0; i < contour.length; i += 2) {
    x0 = Math.min(x0, contour[i]);
    x1 = Math.max(x1, contour[i]);
    y0 = Math.min(y0, contour[i + 1]);
    y1 = Math.max(y1, contour[i + 1]);
  }
  return [x0, y0, x1, y1];
}

// Even-odd rule.
export function contains(contour, x, y) {
  let inside = false;
  const n = contour.length;
  for (let i = 0, j = n - 2; i < n; j = i, i += 2) {
    const yi = contour[i + 1],
      yj = contour[j + 1];
    if (yi > y !== yj > y && x < ((contour[j] - contour[i]) * (y - yi)) / (yj - yi) + contour[i]) inside = !inside;
  }
  return inside;
}

export const overlaps = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

// Approximate intersection over union of two polygons, sampled on a grid; good to about 0.05.
export function sampledIou(a, b, samples = 24) {
  const ra = boundsOf(a),
    rb = boundsOf(b);
  if (!overlaps(ra, rb)) return 0;
  const x0 = Math.min(ra[0], rb[0]),
    y0 = Math.min(ra[1], rb[1]);
  const w = Math.max(ra[2], rb[2]) - x0,
    h = Math.max(ra[3], rb[3]) - y0;
  let both = 0,
    either = 0;
  for (let row = 0; row < samples; row++) {
    const y = y0 + ((row + 0.5) / samples) * h;
    for (let column = 0; column < samples; column++) {
      const x = x0 + ((column + 0.5) / samples) * w;
      const inA = contains(a, x, y),
        inB = contains(b, x, y);
      if (inA && inB) both += 1;
      if (inA || inB) either += 1;
    }
  }
  return either ? both / either : 0;
}

// Buckets of droplets by bounding box. Each droplet needs `bounds`, `contour` and `area_px`.
export class SpatialGrid {
  constructor(droplets, cell) {
    this.cell = cell;
    this.buckets = new Map();
    for (const droplet of droplets) {
      this.eachKey(droplet.bounds, (key) => {
        const bucket = this.buckets.get(key);
        if (bucket) bucket.push(droplet);
        else this.buckets.set(key, [droplet]);
      });
    }
  }

  eachKey([x0, y0, x1, y1], visit) {
    const { cell } = this;
    for (let row = Math.floor(y0 / cell); row <= Math.floor(y1 / cell); row++) {
      for (let column = Math.floor(x0 / cell); column <= Math.floor(x1 / cell); column++) visit(`${column},${row}`);
    }
  }

  inRect(rect) {
    const found = new Set();
    this.eachKey(rect, (key) => {
      for (const droplet of this.buckets.get(key) ?? []) if (overlaps(droplet.bounds, rect)) found.add(droplet);
    });
    return [...found];
  }

  // The smallest droplet whose outline holds the point, so that one inside another stays reachable.
  at(x, y) {
    const key = `${Math.floor(x / this.cell)},${Math.floor(y / this.cell)}`;
    let best = null;
    for (const droplet of this.buckets.get(key) ?? []) {
      if ((!best || droplet.area_px < best.area_px) && contains(droplet.contour, x, y)) best = droplet;
    }
    return best;
  }
}
