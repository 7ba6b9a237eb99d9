// The micrograph itself: loads the display image, keeps halved copies so that far zooms are quick and smooth, and
// fetches a finer one when the zoom asks for it. The measured pixels never come here.

const FIRST_SIDE = 4096;
const LARGEST_SIDE = 12000;

export class Picture extends EventTarget {
  constructor(stage) {
    super();
    this.stage = stage;
    this.url = stage.root.dataset.viewUrl;
    this.longest = Math.max(stage.imageWidth, stage.imageHeight);
    this.options = { stretch: false, channel: "" };
    this.levels = [];
    this.side = 0;
    this.request = 0;
    stage.setPainter(0, (context) => this.paint(context));
    stage.addEventListener("view", () => this.refineIfNeeded());
  }

  show(options) {
    this.options = { ...this.options, ...options };
    this.side = 0;
    return this.load(Math.min(this.longest, FIRST_SIDE));
  }

  async load(side) {
    const request = ++this.request;
    this.side = side;
    const picture = new Image();
    picture.src = this.urlFor(side);
    try {
      await picture.decode();
    } catch {
      if (request === this.request) this.dispatchEvent(new Event("error"));
      return;
    }
    if (request !== this.request) return; // a newer choice overtook this one
    this.levels = halvings(picture);
    this.stage.redraw(0);
    this.dispatchEvent(new Event("load"));
  }

  urlFor(side) {
    const query = new URLSearchParams();
    if (side < this.longest) query.set("max_side", side);
    if (this.options.stretch) query.set("stretch", 1);
    if (this.options.channel !== "") query.set("channel", this.options.channel);
    return query.size ? `${this.url}?${query}` : this.url;
  }

  refineIfNeeded() {
    const shown = this.longest * this.stage.view.scale * this.stage.ratio;
    const finest = Math.min(this.longest, LARGEST_SIDE);
    if (this.side && this.side < finest && shown > this.side * 1.3) this.load(finest);
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
