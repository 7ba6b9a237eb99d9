// The micrograph itself: loads the display image and keeps halved copies so that far zooms are quick and smooth. Of a
// big image it loads a small copy, and tiles of what is in view. The measured pixels never come here.

import { levelFor, Tiles } from "./tiles.js";

const WHOLE_SIDE = 4096; // above this a small copy and tiles
const SMALL_SIDE = 2048;

export class Picture extends EventTarget {
  constructor(stage) {
    super();
    this.stage = stage;
    this.longest = Math.max(stage.imageWidth, stage.imageHeight);
    this.options = { stretch: false, channel: "" };
    this.levels = [];
    this.request = 0;
    this.tiles = this.longest > WHOLE_SIDE ? this.makeTiles() : null;
    stage.setPainter(0, (context) => this.paint(context));
    stage.addEventListener("view", () => this.wantTiles());
  }

  makeTiles() {
    const { imageWidth, imageHeight } = this.stage;
    const tiles = new Tiles(imageWidth, imageHeight, (tile, signal) => this.loadTile(tile, signal));
    tiles.addEventListener("load", () => this.stage.redraw(0));
    return tiles;
  }

  show(options) {
    this.options = { ...this.options, ...options };
    this.tiles?.clear();
    return this.load();
  }

  async load() {
    const request = ++this.request;
    let picture;
    try {
      picture = await decoded(this.urlFor(this.stage.root.dataset.viewUrl, this.tiles ? { max_side: SMALL_SIDE } : {}));
    } catch {
      if (request === this.request) this.dispatchEvent(new Event("error"));
      return;
    }
    if (request !== this.request) return; // a newer choice overtook this one
    this.levels = halvings(picture);
    this.stage.redraw(0);
    this.wantTiles();
    this.dispatchEvent(new Event("load"));
  }

  loadTile({ level, column, row }, signal) {
    return decoded(this.urlFor(this.stage.root.dataset.tileUrl, { level, column, row }), signal);
  }

  urlFor(address, place) {
    const query = new URLSearchParams(place);
    if (this.options.stretch) query.set("stretch", 1);
    if (this.options.channel !== "") query.set("channel", this.options.channel);
    return query.size ? `${address}?${query}` : address;
  }

  // The level of tiles that the zoom asks for; null where the small copy is fine enough.
  get level() {
    const { view, ratio } = this.stage;
    const coarsest = Math.ceil(Math.log2(this.longest / SMALL_SIDE)) - 1;
    const isSmallEnough = this.longest * view.scale * ratio <= SMALL_SIDE * 1.2;
    return isSmallEnough ? null : levelFor(view.scale, ratio, coarsest);
  }

  wantTiles() {
    if (!this.tiles || !this.levels.length || this.level === null) return;
    this.tiles.want(this.stage.visibleRect, this.level);
  }

  paint(context) {
    if (!this.levels.length) return;
    const { view, imageWidth, ratio } = this.stage;
    const deviceWidth = imageWidth * view.scale * ratio;
    const level = this.levels.findLast((candidate) => candidate.width >= deviceWidth) ?? this.levels[0];
    // Above 3 screen pixels per image pixel, show the pixels as they are.
    context.imageSmoothingEnabled = view.scale < 3;
    context.imageSmoothingQuality = "medium";
    this.drawVisible(context, level);
    if (this.tiles && this.level !== null) this.drawTiles(context);
  }

  // On whole screen pixels, so that no seam shows between neighbours.
  drawTiles(context) {
    const { view, ratio, visibleRect } = this.stage;
    const snapped = (value) => Math.round(value * ratio) / ratio;
    for (const { picture, rect } of this.tiles.inView(visibleRect, this.level)) {
      const from = view.toScreen(rect[0], rect[1]),
        to = view.toScreen(rect[2], rect[3]);
      const x = snapped(from.x),
        y = snapped(from.y);
      context.drawImage(picture, x, y, snapped(to.x) - x, snapped(to.y) - y);
    }
  }

  drawVisible(context, level) {
    const { view, imageWidth, imageHeight, visibleRect } = this.stage;
    const x0 = Math.max(Math.floor(visibleRect[0]), 0),
      y0 = Math.max(Math.floor(visibleRect[1]), 0);
    const x1 = Math.min(Math.ceil(visibleRect[2]), imageWidth),
      y1 = Math.min(Math.ceil(visibleRect[3]), imageHeight);
    if (x1 <= x0 || y1 <= y0) return;
    const fx = level.width / imageWidth,
      fy = level.height / imageHeight;
    const at = view.toScreen(x0, y0);
    context.drawImage(
      level,
      x0 * fx,
      y0 * fy,
      (x1 - x0) * fx,
      (y1 - y0) * fy,
      at.x,
      at.y,
      (x1 - x0) * view.scale,
      (y1 - y0) * view.scale,
    );
  }
}

async function decoded(url, signal) {
  const picture = new Image();
  picture.src = url;
  const given = new Promise((_, reject) => {
    signal?.addEventListener("abort", () => {
      picture.removeAttribute("src"); // stops the download, but leaves decode() waiting
      reject(signal.reason);
    });
  });
  await Promise.race([picture.decode(), given]);
  return picture;
}

// [full, half, quarter, …] down to about 512 pixels, as canvases.
function halvings(picture) {
  const levels = [draw(picture, picture.naturalWidth, picture.naturalHeight)];
  while (Math.max(levels.at(-1).width, levels.at(-1).height) > 1024) {
    const { width, height } = levels.at(-1);
    levels.push(draw(levels.at(-1), Math.ceil(width / 2), Math.ceil(height / 2)));
  }
  return levels;
}

function draw(source, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(source, 0, 0, width, height);
  return canvas;
}
