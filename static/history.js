// Undo and redo as a list of steps, each with its patch and the patch that takes it back. No limit that a day reaches.
// Kept for this browser tab, so a reload does not end it.

const LIMIT = 1000;
const KEPT_STEPS = 200;

export class History extends EventTarget {
  // key: under which the tab keeps the steps; without one they last as long as the page.
  constructor(key = null) {
    super();
    this.key = key;
    this.steps = [];
    this.done = 0;
    this.addEventListener("change", () => this.keep());
  }

  // Takes up the steps of before a reload, unless the image was changed elsewhere since: revision is the server's.
  restore(revision) {
    try {
      const kept = JSON.parse(sessionStorage.getItem(this.key)) ?? {};
      if (kept.revision !== revision) return;
      Object.assign(this, { steps: kept.steps, done: kept.done });
      this.dispatchEvent(new Event("change"));
    } catch {
      // Storage is blocked or damaged: undo begins here.
    }
  }

  // Called with each revision that the server answers with.
  keep(revision = this.revision) {
    // Answers overtake each other; what was newer stays so.
    if (revision < this.revision) return;
    this.revision = revision;
    if (this.key === null || revision === undefined) return;
    const from = Math.max(this.done - KEPT_STEPS, 0);
    const kept = { revision, steps: this.steps.slice(from), done: this.done - from };
    try {
      sessionStorage.setItem(this.key, JSON.stringify(kept));
    } catch {
      // Storage is blocked or full: the steps last as long as the page.
    }
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
