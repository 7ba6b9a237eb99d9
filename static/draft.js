// The droplet being drawn: prompts (points, a box), the model's candidates for them, and keeping one.
// Only the answer to the newest prompt counts; an older one that comes late is dropped.

import { predict } from "./api.js";
import { boundsOf, sampledIou } from "./geometry.js";

const REPLACES_IOU = 0.5;
const ADVICE = "Drag a box around it, or draw it (W).";

export class Draft extends EventTarget {
  constructor(annotation, editor) {
    super();
    this.annotation = annotation;
    this.editor = editor;
    this.reset();
    // After another step, redo means that step, not a prompt that was taken back before it.
    editor.history.addEventListener("change", () => (this.undone = []));
  }

  reset() {
    this.points = [];
    this.undone = [];
    this.box = null;
    this.candidates = [];
    this.index = 0;
    this.message = null;
    this.model = null;
    this.pending = null;
    this.abort = null;
  }

  get isActive() {
    return this.points.length > 0 || this.box !== null;
  }

  get candidate() {
    return this.candidates[this.index] ?? null;
  }

  // Asked about a droplet, and answered that there is none.
  get hasFailed() {
    return this.isActive && !this.pending && !this.candidate && (this.box !== null || this.isAsking);
  }

  get isAsking() {
    return this.points.some(({ label }) => label === 1);
  }

  addPoint(x, y, isPositive) {
    // Who clicks again after "nothing here" means another place, not one more point of nothing.
    if (isPositive && this.hasFailed) this.clear();
    this.points.push({ x, y, label: isPositive ? 1 : 0 });
    this.undone = [];
    return this.ask();
  }

  setBox(box) {
    this.clear();
    this.undone = [];
    this.box = box;
    return this.ask();
  }

  // Takes the last prompt back; true if there was one.
  removeLast() {
    if (!this.isActive) return false;
    if (this.points.length) this.undone.push({ point: this.points.pop() });
    else {
      this.undone.push({ box: this.box });
      this.box = null;
    }
    if (this.isActive) this.ask();
    else this.stop();
    return true;
  }

  // Puts back the point or the box that removeLast took.
  restoreLast() {
    const last = this.undone.pop();
    if (!last) return false;
    if (last.point) this.points.push(last.point);
    else this.box = last.box;
    this.ask();
    return true;
  }

  next() {
    if (this.candidates.length < 2) return;
    this.index = (this.index + 1) % this.candidates.length;
    this.changed();
  }

  clear() {
    if (!this.isActive) return false;
    this.undone = [];
    this.stop();
    return true;
  }

  stop() {
    const { undone } = this;
    this.abort?.abort();
    this.reset();
    this.undone = undone;
    this.changed();
  }

  get prompt() {
    return {
      points: this.points.map(({ x, y }) => [round(x), round(y)]),
      labels: this.points.map(({ label }) => label),
      box: this.box?.map(round) ?? null,
      multimask: this.points.length === 1 && !this.box,
      model: "auto",
    };
  }

  ask() {
    this.abort?.abort();
    if (!this.box && !this.isAsking) {
      this.candidates = [];
      this.message = "Add a positive point, too: click inside the droplet";
      this.changed();
      return Promise.resolve();
    }
    const abort = new AbortController();
    this.abort = abort;
    this.pending = this.request(abort);
    this.changed();
    return this.pending;
  }

  async request(abort) {
    try {
      const answer = await predict(this.annotation.image.id, { ...this.prompt, commit: false }, abort.signal);
      if (abort !== this.abort) return;
      for (const candidate of answer.candidates) candidate.bounds = boundsOf(candidate.contour);
      this.candidates = answer.candidates;
      this.model = answer.model;
      this.message = answer.candidates.length ? null : `${answer.message ?? "No droplet was found here."} ${this.box ? "" : ADVICE}`.trim();
    } catch (error) {
      if (abort !== this.abort || error.name === "AbortError") return;
      this.candidates = [];
      this.message = error.message;
    }
    this.index = 0;
    this.pending = null;
    this.changed();
  }

  // Stores the shown candidate. Resolves to the stored droplet, or null where there is nothing to keep.
  async commit() {
    await this.pending;
    const chosen = this.candidate;
    if (!chosen) return null;
    const { prompt, index: candidate } = this;
    const { droplet, revision } = await predict(this.annotation.image.id, { ...prompt, commit: true, candidate });
    this.clear();
    const replaced = this.overlapping(droplet);
    this.annotation.put(droplet);
    const forward = { restore: [droplet.id], delete: replaced };
    this.annotation.changed("droplets");
    if (replaced.length) this.editor.put({ delete: replaced });
    this.editor.record(`add droplet ${droplet.id}`, forward, { delete: [droplet.id], restore: replaced }, revision);
    return { droplet, replaced };
  }

  // Droplets in whose place the shown candidate would stand.
  get standing() {
    const { candidate } = this;
    return candidate ? this.overlapping({ id: null, contour: candidate.contour }) : [];
  }

  // Droplets that the new one stands in for: the same object outlined before.
  overlapping(droplet) {
    const bounds = boundsOf(droplet.contour);
    return this.annotation.grid
      .inRect(bounds)
      .filter(({ id, contour }) => id !== droplet.id && sampledIou(contour, droplet.contour) > REPLACES_IOU)
      .map(({ id }) => id);
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }
}

const round = (value) => Math.round(value * 100) / 100;
