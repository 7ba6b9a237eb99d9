// Shapes from outlines: area, fitted circle and ellipse, convex hull. Flat polygons [x0, y0, …]. Pure.

const VERTICES = 96;

// Signed area: positive where the outline runs clockwise on the screen.
export function signedArea(contour) {
  let sum = 0;
  eachEdge(contour, (x0, y0, x1, y1) => (sum += x0 * y1 - x1 * y0));
  return sum / 2;
}

export function perimeter(contour) {
  let sum = 0;
  eachEdge(contour, (x0, y0, x1, y1) => (sum += Math.hypot(x1 - x0, y1 - y0)));
  return sum;
}

function eachEdge(contour, visit) {
  const n = contour.length;
  for (let i = 0, j = n - 2; i < n; j = i, i += 2) visit(contour[j], contour[j + 1], contour[i], contour[i + 1]);
}

// Points at equal distances along the outline.
function resampled(contour, count) {
  const step = perimeter(contour) / count;
  const points = [];
  let left = 0;
  eachEdge(contour, (x0, y0, x1, y1) => {
    const length = Math.hypot(x1 - x0, y1 - y0);
    for (; left < length && points.length < 2 * count; left += step)
      points.push(x0 + ((x1 - x0) * left) / length, y0 + ((y1 - y0) * left) / length);
    left -= length;
  });
  return points;
}

// The circle x² + y² + ux + vy + w = 0 with the least squared error (Kåsa 1976), as a polygon.
export function fittedCircle(contour) {
  const points = resampled(contour, 256);
  const n = points.length / 2;
  let [mx, my] = [0, 0];
  for (let i = 0; i < points.length; i += 2) [mx, my] = [mx + points[i] / n, my + points[i + 1] / n];
  let [xx, xy, yy, xz, yz, z] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < points.length; i += 2) {
    const [x, y] = [points[i] - mx, points[i + 1] - my];
    const r2 = x * x + y * y;
    [xx, xy, yy, xz, yz, z] = [xx + x * x, xy + x * y, yy + y * y, xz + x * r2, yz + y * r2, z + r2];
  }
  const determinant = 2 * (xx * yy - xy * xy);
  if (!(determinant > 0)) return contour;
  const a = (xz * yy - yz * xy) / determinant,
    b = (yz * xx - xz * xy) / determinant;
  const radius = Math.sqrt(z / n + a * a + b * b);
  return ellipse(mx + a, my + b, radius, radius, 0);
}

// The ellipse with the outline's area and the directions and ratio of its second moments, as a polygon.
export function fittedEllipse(contour) {
  const { area, x, y, xx, xy, yy } = moments(contour);
  if (!(area > 0)) return contour;
  const middle = (xx + yy) / 2,
    spread = Math.hypot((xx - yy) / 2, xy);
  const ratio = Math.sqrt((middle + spread) / Math.max(middle - spread, 1e-12));
  const major = Math.sqrt((area * ratio) / Math.PI);
  return ellipse(x, y, major, major / ratio, Math.atan2(2 * xy, xx - yy) / 2);
}

// Area, centroid and central second moments per area, by Green's theorem.
function moments(contour) {
  const [x0, y0] = contour;
  let [area, sx, sy, sxx, sxy, syy] = [0, 0, 0, 0, 0, 0];
  eachEdge(contour, (ax, ay, bx, by) => {
    const [px, py, qx, qy] = [ax - x0, ay - y0, bx - x0, by - y0];
    const cross = px * qy - qx * py;
    area += cross / 2;
    sx += ((px + qx) * cross) / 6;
    sy += ((py + qy) * cross) / 6;
    sxx += ((px * px + px * qx + qx * qx) * cross) / 12;
    syy += ((py * py + py * qy + qy * qy) * cross) / 12;
    sxy += ((px * qy + 2 * px * py + 2 * qx * qy + qx * py) * cross) / 24;
  });
  const [mx, my] = [sx / area, sy / area];
  return {
    area: Math.abs(area),
    x: x0 + mx,
    y: y0 + my,
    xx: sxx / area - mx * mx,
    yy: syy / area - my * my,
    xy: sxy / area - mx * my,
  };
}

function ellipse(x, y, a, b, angle) {
  const contour = [];
  for (let k = 0; k < VERTICES; k++) {
    const [u, v] = [a * Math.cos((2 * Math.PI * k) / VERTICES), b * Math.sin((2 * Math.PI * k) / VERTICES)];
    contour.push(x + u * Math.cos(angle) - v * Math.sin(angle), y + u * Math.sin(angle) + v * Math.cos(angle));
  }
  return contour;
}

// An outline along pixel edges as the line through the middles of those edges: moved outwards, the corners of its steps
// would count as rim. Any other outline stays as it is.
export function withoutSteps(contour) {
  if (!contour.every(Number.isInteger)) return contour;
  const middles = [];
  eachEdge(contour, (x0, y0, x1, y1) => {
    const length = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0));
    for (let k = 0; k < length; k++) {
      const share = (k + 0.5) / length;
      middles.push(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share);
    }
  });
  return middles;
}

// Convex hull of all points of some outlines (Andrew's monotone chain).
export function hullOf(contours) {
  const points = [];
  for (const contour of contours) for (let i = 0; i < contour.length; i += 2) points.push([contour[i], contour[i + 1]]);
  points.sort((p, q) => p[0] - q[0] || p[1] - q[1]);
  const isLeftTurn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]) > 0;
  const half = (ordered) => {
    const chain = [];
    for (const point of ordered) {
      while (chain.length > 1 && !isLeftTurn(chain.at(-2), chain.at(-1), point)) chain.pop();
      chain.push(point);
    }
    return chain.slice(0, -1);
  };
  return [...half(points), ...half([...points].reverse())].flat();
}

// Whether the line from p to q crosses the outline at least twice.
export function isCut(contour, p, q) {
  let crossings = 0;
  const side = (a, b, x, y) => Math.sign((b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x));
  eachEdge(contour, (x0, y0, x1, y1) => {
    const [a, b] = [{ x: x0, y: y0 }, { x: x1, y: y1 }];
    if (side(p, q, x0, y0) !== side(p, q, x1, y1) && side(a, b, p.x, p.y) !== side(a, b, q.x, q.y)) crossings += 1;
  });
  return crossings >= 2;
}
