// The tiles of a big image: fetches those in view, the middle ones first, and keeps the last used within a bound.
// A tile of level n shows 512 · 2ⁿ image pixels a side in 512 of its own; the server makes them.

const SIDE = 512;
const AT_ONCE = 3;
const KEPT = 160; // about 160 MB of decoded pictures
const RETRY_MS = 3000;

// The level whose pixels are nearest to those of the screen, from the finer side.
export function levelFor(scale, ratio, coarsest) {
  const level = Math.floor(Math.log2(1 / (scale * ratio)) + 0.25);
  return Math.min(Math.max(level, 0), coarsest);
}

// Tiles of a level that meet the rectangle, nearest to its middle first: [{level, column, row, rect}].
export function tilesIn([x0, y0, x1, y1], level, width, height) {
  const side = SIDE * 2 ** level;
  const tiles = [];
  for (let row = Math.max(Math.floor(y0 / side), 0); row * side < Math.min(y1, height); row++) {
    for (let column = Math.max(Math.floor(x0 / side), 0); column * side < Math.min(x1, width); column++) {
      const rect = [column * side, row * side, Math.min((column + 1) * side, width), Math.min((row + 1) * side, height)];
      tiles.push({ level, column, row, rect });
    }
  }
  const far = ({ rect }) => Math.hypot(rect[0] + rect[2] - x0 - x1, rect[1] + rect[3] - y0 - y1);
  return tiles.sort((a, b) => far(a) - far(b));
}

export class Tiles extends EventTarget {
  // load(tile, signal) resolves to something that a canvas can draw.
  constructor(width, height, load, kept = KEPT) {
    super();
    Object.assign(this, { width, height, load, kept });
    this.made = new Map(); // the least recently used first
    this.loading = new Map();
    this.wanted = [];
    this.waitUntil = new Map();
  }

  static keyOf = ({ level, column, row }) => `${level}/${column}/${row}`;

  clear() {
    for (const abort of this.loading.values()) abort.abort();
    this.loading.clear();
    this.made.clear();
    this.waitUntil.clear();
    this.wanted = [];
  }

  // Says what is in view now: the rest is no longer fetched.
  want(rect, level) {
    this.wanted = tilesIn(rect, level, this.width, this.height);
    const keys = new Set(this.wanted.map(Tiles.keyOf));
    for (const [key, abort] of this.loading) if (!keys.has(key)) abort.abort();
    this.fill();
  }

  fill() {
    const now = performance.now();
    for (const tile of this.wanted) {
      if (this.loading.size >= AT_ONCE) return;
      const key = Tiles.keyOf(tile);
      if (this.made.has(key) || this.loading.has(key) || now < (this.waitUntil.get(key) ?? 0)) continue;
      this.fetch(key, tile);
    }
  }

  async fetch(key, tile) {
    const abort = new AbortController();
    this.loading.set(key, abort);
    try {
      const picture = await this.load(tile, abort.signal);
      if (!abort.signal.aborted) this.keep(key, { ...tile, picture });
    } catch {
      // Left out, or the server is away: the coarser picture stays, and the tile is asked for again.
      if (!abort.signal.aborted) {
        this.waitUntil.set(key, performance.now() + RETRY_MS);
        setTimeout(() => this.fill(), RETRY_MS);
      }
    }
    if (this.loading.get(key) === abort) this.loading.delete(key);
    this.fill();
  }

  keep(key, tile) {
    this.made.set(key, tile);
    for (const oldest of this.made.keys()) {
      if (this.made.size <= this.kept) break;
      this.made.delete(oldest);
    }
    this.dispatchEvent(new Event("load"));
  }

  // The tiles to draw over each other, coarse ones first, for a view of the given level.
  inView([x0, y0, x1, y1], level) {
    const seen = [];
    for (const [key, tile] of this.made) {
      const [a, b, c, d] = tile.rect;
      if (tile.level < level || a >= x1 || c <= x0 || b >= y1 || d <= y0) continue;
      seen.push([key, tile]);
    }
    for (const [key, tile] of seen) {
      this.made.delete(key);
      this.made.set(key, tile);
    }
    return seen.map(([, tile]) => tile).sort((a, b) => b.level - a.level);
  }
}
