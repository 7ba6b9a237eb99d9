// Sends every edit to the server, one request at a time, and keeps trying while the server cannot be reached.
// Edits that wait are merged into one patch; nothing is dropped unless the server refuses it for good.

import { patchAnnotation } from "./api.js";
import { isEmpty, merged } from "./patch.js";

const COLLECT_MS = 60;
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 20000;
const KEY = "sam-droplet-unsaved-";

export class Autosave extends EventTarget {
  constructor(imageId, { send = patchAnnotation } = {}) {
    super();
    this.imageId = imageId;
    this.send = send;
    this.waiting = {};
    this.inFlight = null;
    this.retryMs = FIRST_RETRY_MS;
    this.timer = null;
    this.state = "saved";
    this.problem = null;
    window.addEventListener("online", () => this.flush());
    window.addEventListener("pagehide", () => {
      this.keep();
      this.flush({ keepalive: true });
    });
    window.addEventListener("beforeunload", (event) => {
      if (this.isUnsaved) event.preventDefault();
    });
  }

  get isUnsaved() {
    return this.inFlight !== null || !isEmpty(this.waiting);
  }

  // Everything that the server may not know yet, as one patch.
  get unsaved() {
    return merged(this.inFlight?.patch ?? {}, this.waiting);
  }

  // While the server cannot be reached, what it does not know is kept here, too, in case the browser goes as well.
  keep() {
    try {
      if (this.isUnsaved) localStorage.setItem(KEY + this.imageId, JSON.stringify(this.unsaved));
      else localStorage.removeItem(KEY + this.imageId);
    } catch {
      // Storage is blocked or full: the edits last as long as the page.
    }
  }

  // The edits that an earlier page could not save, as one patch; null without any. Edits set something, so one that
  // did arrive after all does no harm.
  takeKept() {
    try {
      return JSON.parse(localStorage.getItem(KEY + this.imageId));
    } catch {
      return null;
    }
  }

  add(patch) {
    if (isEmpty(patch)) return;
    this.waiting = merged(this.waiting, patch);
    if (this.state !== "retrying") this.enter("waiting");
    this.schedule(this.state === "retrying" ? this.retryMs : COLLECT_MS);
  }

  schedule(delayMs) {
    if (this.timer === null) this.timer = setTimeout(() => this.flush(), delayMs);
  }

  // Sends what waits. Resolves to true once the server has everything, to false where it could not be sent now.
  async flush(options = {}) {
    clearTimeout(this.timer);
    this.timer = null;
    while (this.isUnsaved) {
      if (this.inFlight) await this.inFlight.done;
      else await this.sendWaiting(options);
      if (this.state === "retrying") return false;
    }
    return true;
  }

  sendWaiting(options) {
    const patch = this.waiting;
    this.waiting = {};
    this.inFlight = { patch, done: null };
    this.enter("saving");
    this.inFlight.done = this.send(this.imageId, patch, options).then(
      (answer) => this.succeeded(answer),
      (error) => this.failed(patch, error),
    );
    return this.inFlight.done;
  }

  succeeded(answer) {
    this.inFlight = null;
    this.retryMs = FIRST_RETRY_MS;
    this.enter(isEmpty(this.waiting) ? "saved" : "waiting");
    this.keep();
    this.dispatchEvent(new CustomEvent("answer", { detail: answer }));
  }

  failed(patch, error) {
    this.inFlight = null;
    this.problem = error;
    if (!(error.isTemporary ?? true)) {
      this.enter("refused");
      this.keep();
      this.dispatchEvent(new CustomEvent("refused", { detail: error }));
      return;
    }
    this.waiting = merged(patch, this.waiting);
    const delayMs = Math.max((error.retryAfterS ?? 0) * 1000, this.retryMs);
    this.retryMs = Math.min(this.retryMs * 2, LAST_RETRY_MS);
    this.enter("retrying");
    this.keep();
    this.schedule(delayMs);
  }

  enter(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}
