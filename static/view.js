// The view: how image coordinates (first pixel spans 0..1) land on the screen. Pure and reversible; knows no canvas.

const MAX_SCALE = 64;

export class View {
  constructor(scale = 1, x = 0, y = 0) {
    this.scale = scale;
    this.x = x;
    this.y = y;
  }

  toScreen(px, py) {
    return { x: px * this.scale + this.x, y: py * this.scale + this.y };
  }

  toImage(sx, sy) {
    return { x: (sx - this.x) / this.scale, y: (sy - this.y) / this.scale };
  }

  panned(dx, dy) {
    return new View(this.scale, this.x + dx, this.y + dy);
  }

  // Zooms by a factor and keeps the image point under (sx, sy) where it is.
  zoomedAt(sx, sy, factor, minScale = 0.01) {
    const scale = Math.min(Math.max(this.scale * factor, minScale), MAX_SCALE);
    const ratio = scale / this.scale;
    return new View(scale, sx - (sx - this.x) * ratio, sy - (sy - this.y) * ratio);
  }

  // Image rectangle [x0, y0, x1, y1] that a screen of the given size shows.
  visibleRect(width, height) {
    const a = this.toImage(0, 0);
    const b = this.toImage(width, height);
    return [a.x, a.y, b.x, b.y];
  }

  // Keeps some of the image in reach: its middle may not leave the screen by more than half the image.
  clamped(width, height, imageWidth, imageHeight) {
    const limit = (offset, screen, extent) => Math.min(Math.max(offset, screen * 0.2 - extent), screen * 0.8);
    const w = imageWidth * this.scale;
    const h = imageHeight * this.scale;
    return new View(this.scale, limit(this.x, width, w), limit(this.y, height, h));
  }
}

export function fitted(width, height, imageWidth, imageHeight, margin = 16) {
  const room = (screen) => Math.max(screen - 2 * margin, 16);
  const scale = Math.min(room(width) / imageWidth, room(height) / imageHeight, MAX_SCALE);
  return new View(scale, (width - imageWidth * scale) / 2, (height - imageHeight * scale) / 2);
}

// Shows an image rectangle in the middle, at the present scale unless it would not fit.
export function revealing(view, rect, width, height) {
  const [x0, y0, x1, y1] = rect;
  const room = 0.6;
  const scale = Math.min(view.scale, (width * room) / Math.max(x1 - x0, 1), (height * room) / Math.max(y1 - y0, 1));
  return new View(scale, width / 2 - ((x0 + x1) / 2) * scale, height / 2 - ((y0 + y1) / 2) * scale);
}
