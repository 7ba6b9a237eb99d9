// Turns pointer, wheel and touch events on the stage into pan, zoom and calls to the active tool. Pointer events only.

const CLICK_SLOP = { mouse: 4, pen: 6, touch: 10 };
const LONG_PRESS_MS = 500;
const DOUBLE_MS = 350;

export class Gestures extends EventTarget {
  constructor(stage, activeTool) {
    super();
    this.stage = stage;
    this.activeTool = activeTool;
    this.pointers = new Map();
    this.gesture = null;
    this.lastTap = { time: 0, x: 0, y: 0 };
    this.isPanKeyHeld = false;
    const { root } = stage;
    root.addEventListener("pointerdown", (event) => this.down(event));
    root.addEventListener("pointermove", (event) => this.move(event));
    root.addEventListener("pointerup", (event) => this.up(event));
    root.addEventListener("pointercancel", (event) => this.cancel(event));
    root.addEventListener("pointerleave", () => this.leave());
    root.addEventListener("contextmenu", (event) => event.preventDefault());
    root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  setPanKey(held) {
    this.isPanKeyHeld = held;
    this.stage.root.classList.toggle("can-pan", held);
  }

  wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    // Pinching a trackpad arrives as small steps with Ctrl.
    const speed = event.ctrlKey && Math.abs(event.deltaY) < 40 ? 0.01 : 0.0018;
    const { x, y } = this.stage.positionOf(event);
    this.stage.zoomAt(x, y, Math.exp(-event.deltaY * unit * speed));
  }

  down(event) {
    this.stage.root.focus({ preventScroll: true });
    this.stage.root.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.stage.positionOf(event));
    if (this.pointers.size === 2) this.startPinch();
    else if (this.pointers.size === 1) this.start(event);
  }

  start(event) {
    const at = this.stage.positionOf(event);
    const touch = event.pointerType === "touch";
    const pans = event.button === 1 || this.isPanKeyHeld;
    if (event.button === 1) event.preventDefault();
    this.gesture = {
      kind: pans ? "pan" : "press",
      at,
      last: at,
      button: event.button,
      pointerType: event.pointerType,
      timer: null,
    };
    this.stage.root.classList.toggle("is-panning", pans);
    if (touch && !pans) this.gesture.timer = setTimeout(() => this.longPress(), LONG_PRESS_MS);
  }

  startPinch() {
    this.abandon();
    this.gesture = { kind: "pinch", ...this.pinchState() };
  }

  pinchState() {
    const [a, b] = [...this.pointers.values()];
    return { middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, distance: Math.hypot(a.x - b.x, a.y - b.y) };
  }

  move(event) {
    const at = this.stage.positionOf(event);
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, at);
    const { gesture } = this;
    if (!gesture) return this.hover(at);
    if (gesture.kind === "pinch") return this.movePinch();
    if (gesture.kind === "press" && this.isPastSlop(at)) this.startDrag();
    if (gesture.kind === "pan") this.stage.pan(at.x - gesture.last.x, at.y - gesture.last.y);
    if (gesture.kind === "drag") this.activeTool().dragMove?.(this.toImage(gesture.at), this.toImage(at), event);
    gesture.last = at;
    this.hover(at);
  }

  isPastSlop(at) {
    const { at: start, pointerType } = this.gesture;
    return Math.hypot(at.x - start.x, at.y - start.y) > (CLICK_SLOP[pointerType] ?? 4);
  }

  startDrag() {
    const { gesture } = this;
    clearTimeout(gesture.timer);
    const tool = this.activeTool();
    const pans = !tool.dragMove || (gesture.pointerType === "touch" && !tool.dragsWithTouch) || gesture.button === 2;
    gesture.kind = pans ? "pan" : "drag";
    this.stage.root.classList.toggle("is-panning", pans);
  }

  movePinch() {
    if (this.pointers.size < 2) return;
    const now = this.pinchState();
    const { middle, distance } = this.gesture;
    this.stage.pan(now.middle.x - middle.x, now.middle.y - middle.y);
    if (distance > 0) this.stage.zoomAt(now.middle.x, now.middle.y, now.distance / distance);
    Object.assign(this.gesture, now);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    const { gesture } = this;
    if (!gesture) return;
    if (gesture.kind === "pinch") {
      if (this.pointers.size === 0) this.gesture = null;
      return;
    }
    this.finish();
    const at = this.stage.positionOf(event);
    if (gesture.kind === "press") this.tap(at, event, gesture);
    if (gesture.kind === "drag") this.activeTool().dragEnd?.(this.toImage(gesture.at), this.toImage(at), event);
  }

  tap(at, event, gesture) {
    const isNegative = gesture.button === 2 || (event.shiftKey && gesture.button === 0);
    const tap = { ...this.toImage(at), isNegative, isAdding: event.ctrlKey || event.metaKey || event.shiftKey };
    const last = this.lastTap;
    const isDouble = event.timeStamp - last.time < DOUBLE_MS && Math.hypot(at.x - last.x, at.y - last.y) < 8;
    this.lastTap = { time: event.timeStamp, ...at };
    if (isDouble && this.activeTool().doubleTap) this.activeTool().doubleTap(tap);
    else this.activeTool().tap?.(tap);
  }

  longPress() {
    const { gesture } = this;
    if (gesture?.kind !== "press") return;
    this.finish();
    this.activeTool().tap?.({ ...this.toImage(gesture.at), isNegative: true, isAdding: true });
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    this.abandon();
  }

  // Ends the present gesture as if it had never begun (Esc, a second finger, a lost pointer).
  abandon() {
    const wasDragging = this.gesture?.kind === "drag";
    this.finish();
    if (wasDragging) this.activeTool().dragCancel?.();
  }

  finish() {
    clearTimeout(this.gesture?.timer);
    this.gesture = null;
    this.stage.root.classList.remove("is-panning");
  }

  hover(at) {
    this.dispatchEvent(new CustomEvent("hover", { detail: { ...this.toImage(at), inside: true } }));
  }

  leave() {
    if (!this.gesture) this.dispatchEvent(new CustomEvent("hover", { detail: { inside: false } }));
  }

  toImage({ x, y }) {
    return this.stage.view.toImage(x, y);
  }
}
