// The outlines that the server answers clicks from: a table of stars, and which of them a click at a point would give.
// Pure. Follows predictor._matching on the server: the outline holds the point, the highest score wins.

const RAYS = 32;
const ROW = 2 + RAYS + 1; // centre x, y; radii; score
const SCORE = ROW - 1;
const VERTICES = 96;
// Below this the server looks again, closer, so its answer may differ.
const SURE = 0.35;

export class Proposals {
  constructor(table) {
    this.table = table;
    this.length = Math.floor(table.length / ROW);
    this.reach = this.largestRadii();
    const sizes = [...this.reach].sort((a, b) => a - b);
    this.cell = Math.max(8, 2 * (sizes[sizes.length >> 1] ?? 8));
    this.fillGrid();
  }

  largestRadii() {
    const reach = new Float32Array(this.length);
    for (let i = 0; i < this.length; i++) {
      for (let ray = 2; ray < 2 + RAYS; ray++) reach[i] = Math.max(reach[i], this.table[i * ROW + ray]);
    }
    return reach;
  }

  fillGrid() {
    this.columns = 1;
    this.rows = 1;
    for (let i = 0; i < this.length; i++) {
      const [x, y] = this.centre(i);
      this.columns = Math.max(this.columns, 1 + Math.floor((x + this.reach[i]) / this.cell));
      this.rows = Math.max(this.rows, 1 + Math.floor((y + this.reach[i]) / this.cell));
    }
    // The members of cell k are members[starts[k]] to members[starts[k + 1]].
    this.starts = new Uint32Array(this.columns * this.rows + 1);
    this.eachCell((cell) => (this.starts[cell + 1] += 1));
    for (let cell = 0; cell + 1 < this.starts.length; cell++) this.starts[cell + 1] += this.starts[cell];
    this.members = new Uint32Array(this.starts.at(-1));
    const next = this.starts.slice();
    this.eachCell((cell, i) => (this.members[next[cell]++] = i));
  }

  eachCell(visit) {
    const from = (value) => Math.max(0, Math.floor(value / this.cell));
    for (let i = 0; i < this.length; i++) {
      const [x, y] = this.centre(i);
      const reach = this.reach[i];
      for (let row = from(y - reach); row <= from(y + reach); row++) {
        for (let column = from(x - reach); column <= from(x + reach); column++) visit(row * this.columns + column, i);
      }
    }
  }

  centre(i) {
    return [this.table[i * ROW], this.table[i * ROW + 1]];
  }

  // The radius of outline i at a direction given in rays, 0 ≤ turn < 32; linear in angle between two rays.
  radius(i, turn) {
    const below = Math.floor(turn) % RAYS;
    const share = turn - Math.floor(turn);
    const first = i * ROW + 2;
    return this.table[first + below] * (1 - share) + this.table[first + ((below + 1) % RAYS)] * share;
  }

  holds(i, x, y) {
    const [a, b] = this.centre(i);
    const distance = Math.hypot(x - a, y - b);
    if (distance > this.reach[i]) return false;
    const turn = (Math.atan2(y - b, x - a) * RAYS) / (2 * Math.PI);
    return distance <= this.radius(i, (turn + RAYS) % RAYS);
  }

  // The outline that a click would give, or null: {index, score, isSure}.
  at(x, y) {
    const column = Math.floor(x / this.cell),
      row = Math.floor(y / this.cell);
    if (column < 0 || row < 0 || column >= this.columns || row >= this.rows) return null;
    const cell = row * this.columns + column;
    let best = -1;
    for (let k = this.starts[cell]; k < this.starts[cell + 1]; k++) {
      const i = this.members[k];
      const isBetter = best < 0 || this.table[i * ROW + SCORE] > this.table[best * ROW + SCORE];
      if (isBetter && this.holds(i, x, y)) best = i;
    }
    if (best < 0) return null;
    const score = this.table[best * ROW + SCORE];
    return { index: best, score, isSure: score >= SURE };
  }

  // Flat polygon [x0, y0, …] of outline i, moved outwards by an offset in px.
  contour(i, offset = 0) {
    const [x, y] = this.centre(i);
    const contour = new Array(2 * VERTICES);
    for (let k = 0; k < VERTICES; k++) {
      const radius = Math.max(this.radius(i, (k * RAYS) / VERTICES) + offset, 0);
      const angle = (2 * Math.PI * k) / VERTICES;
      contour[2 * k] = x + radius * Math.cos(angle);
      contour[2 * k + 1] = y + radius * Math.sin(angle);
    }
    return contour;
  }

  // Diameter of the circle of the same area, as the server's equivalent_radii has it.
  diameter(i, offset = 0) {
    let sum = 0;
    for (let ray = 0; ray < RAYS; ray++) sum += Math.max(this.table[i * ROW + 2 + ray] + offset, 0) ** 2;
    return 2 * Math.sqrt(sum / RAYS);
  }
}
