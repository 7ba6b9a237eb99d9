// Three stacked canvases (image, droplets, draft) behind one view. Redraws what is marked, once per animation frame.

import { fitted, revealing, View } from "./view.js";

export class Stage extends EventTarget {
  constructor(root) {
    super();
    this.root = root;
    this.imageWidth = Number(root.dataset.width);
    this.imageHeight = Number(root.dataset.height);
    this.layers = ["image", "droplet", "draft"].map((name) => {
      const canvas = root.querySelector(`#${name}-layer`);
      return { canvas, context: canvas.getContext("2d"), paint: null, dirty: true };
    });
    this.view = new View();
    this.isFitted = true;
    this.width = 0;
    this.height = 0;
    this.ratio = 1;
    this.frame = null;
    new ResizeObserver(() => this.resize()).observe(root);
    this.resize();
  }

  // Sets what draws a layer: paint(context, stage), in CSS pixels.
  setPainter(index, paint) {
    this.layers[index].paint = paint;
    this.redraw(index);
  }

  redraw(...indices) {
    for (const index of indices) this.layers[index].dirty = true;
    this.frame ??= requestAnimationFrame(() => this.drawFrame());
  }

  drawFrame() {
    this.frame = null;
    for (const layer of this.layers) {
      if (!layer.dirty || !layer.paint) continue;
      layer.dirty = false;
      const { context } = layer;
      context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
      context.clearRect(0, 0, this.width, this.height);
      layer.paint(context, this);
    }
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.root;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    if (!width || !height || (width === this.width && height === this.height && ratio === this.ratio)) return;
    const dx = (width - this.width) / 2,
      dy = (height - this.height) / 2;
    Object.assign(this, { width, height, ratio });
    for (const { canvas } of this.layers) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    this.setView(this.isFitted ? this.fittedView : this.view.panned(dx, dy), this.isFitted);
    // A resized canvas is blank: fill it before the browser shows it.
    this.drawFrame();
  }

  get fittedView() {
    return fitted(this.width, this.height, this.imageWidth, this.imageHeight);
  }

  setView(view, isFitted = false) {
    this.isFitted = isFitted;
    this.view = isFitted ? view : view.clamped(this.width, this.height, this.imageWidth, this.imageHeight);
    this.redraw(0, 1, 2);
    this.dispatchEvent(new Event("view"));
  }

  fit() {
    this.setView(this.fittedView, true);
  }

  pan(dx, dy) {
    this.setView(this.view.panned(dx, dy));
  }

  zoomAt(x, y, factor) {
    const smallest = Math.min(this.fittedView.scale, 1) * 0.5;
    this.setView(this.view.zoomedAt(x, y, factor, smallest));
  }

  zoomBy(factor) {
    this.zoomAt(this.width / 2, this.height / 2, factor);
  }

  actualSize() {
    this.zoomBy(1 / this.ratio / this.view.scale);
  }

  // Moves the view only if the rectangle is not wholly on screen.
  reveal(rect) {
    const [x0, y0, x1, y1] = this.view.visibleRect(this.width, this.height);
    if (rect[0] >= x0 && rect[1] >= y0 && rect[2] <= x1 && rect[3] <= y1) return;
    this.setView(revealing(this.view, rect, this.width, this.height));
  }

  // Screen position of a pointer event inside the stage.
  positionOf(event) {
    const box = this.root.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  get visibleRect() {
    return this.view.visibleRect(this.width, this.height);
  }
}
