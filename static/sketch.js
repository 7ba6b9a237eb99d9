// Drawing an outline by hand: a drag draws it freely or as a rectangle, taps set its corners one by one. Made for tools
// that hand the finished polygon on; knows nothing of droplets.

const CLOSE_PX = 10; // on the screen
const STEP_PX = 2.5; // on the screen, between the points of a free line

export class SketchTool {
  constructor(workbench) {
    this.workbench = workbench;
    this.dragsWithTouch = true;
    this.points = [];
  }

  get isStarted() {
    return this.points.length > 0;
  }

  tap(at) {
    const [first] = this.points;
    if (this.points.length > 2 && this.distanceOnScreen(first, at) < CLOSE_PX) return this.finish();
    this.points.push(this.inside(at));
    this.show(at);
  }

  doubleTap() {
    this.finish();
  }

  hover(pointer) {
    if (this.isStarted) this.show(pointer);
  }

  dragMove(from, to) {
    const last = this.points.at(-1);
    if (!last) this.points.push(this.inside(from));
    if (!last || this.distanceOnScreen(last, to) >= STEP_PX) this.points.push(this.inside(to));
    this.show(to);
  }

  dragEnd() {
    this.finish();
  }

  dragCancel() {
    this.cancel();
  }

  // Closes the outline; false where there is none. `done` receives it as a flat polygon.
  finish() {
    if (!this.isStarted) return false;
    const contour = this.points.flatMap(({ x, y }) => [x, y]);
    const isOutline = this.points.length > 2;
    this.cancel();
    if (isOutline) this.done(contour);
    else this.workbench.say("An outline needs at least three corners");
    return true;
  }

  cancel() {
    if (!this.isStarted) return false;
    this.points = [];
    this.show(null);
    return true;
  }

  removeLast() {
    if (!this.isStarted) return false;
    this.points.pop();
    this.show(null);
    return true;
  }

  disable() {
    this.cancel();
  }

  show(pointer) {
    this.workbench.stage.root.classList.toggle("is-sketching", this.isStarted);
    const points = pointer ? [...this.points, pointer] : this.points;
    this.workbench.draftLayer.setSketch(points.length ? { points, corners: this.points.length } : null);
  }

  inside({ x, y }) {
    const { width, height } = this.workbench.imageSize;
    return { x: Math.min(Math.max(x, 0), width), y: Math.min(Math.max(y, 0), height) };
  }

  distanceOnScreen(a, b) {
    return Math.hypot(a.x - b.x, a.y - b.y) * this.workbench.stage.view.scale;
  }
}
