// Undo and redo as a list of steps, each with its patch and the patch that takes it back. No limit that a day reaches.

const LIMIT = 1000;

export class History extends EventTarget {
  constructor() {
    super();
    this.steps = [];
    this.done = 0;
  }

  push(step) {
    this.steps.length = this.done;
    this.steps.push(step);
    if (this.steps.length > LIMIT) this.steps.shift();
    this.done = this.steps.length;
    this.dispatchEvent(new Event("change"));
  }

  // Returns the step to take back, or null.
  back() {
    if (this.done === 0) return null;
    this.done -= 1;
    this.dispatchEvent(new Event("change"));
    return this.steps[this.done];
  }

  // Returns the step to do again, or null.
  forth() {
    if (this.done === this.steps.length) return null;
    this.done += 1;
    this.dispatchEvent(new Event("change"));
    return this.steps[this.done - 1];
  }

  get undoLabel() {
    return this.steps[this.done - 1]?.label ?? null;
  }

  get redoLabel() {
    return this.steps[this.done]?.label ?? null;
  }
}
