// Follows a job: by a stream of events, and by asking now and then where a stream cannot be had.

import { getJob, watchJob } from "./api.js";

const POLL_MS = 2000;
const LAST_POLL_MS = 20000;

const isFinished = (job) => job.finished_at !== null;

// Events: "change" with {job, items}, the items being those that changed; "connection" with a sentence or null.
export class JobFeed extends EventTarget {
  constructor(jobId, { watch = watchJob, ask = getJob } = {}) {
    super();
    Object.assign(this, { jobId, watch, ask });
    this.source = null;
    this.timer = null;
    this.etag = null;
    this.pollMs = POLL_MS;
  }

  start() {
    this.stop();
    this.source = this.watch(this.jobId);
    this.source.addEventListener("job", ({ data }) => this.take(JSON.parse(data)));
    this.source.addEventListener("error", () => this.streamFailed());
  }

  stop() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.timer);
    this.timer = null;
  }

  take(body) {
    this.say(null);
    if (isFinished(body.job)) this.stop();
    this.dispatchEvent(new CustomEvent("change", { detail: body }));
  }

  streamFailed() {
    // The browser comes back by itself after a break; only a refused stream is closed for good.
    if (this.source?.readyState !== EventSource.CLOSED) return;
    this.stop();
    this.poll();
  }

  async poll() {
    try {
      const { body, etag } = await this.ask(this.jobId, this.etag);
      this.etag = etag;
      this.pollMs = POLL_MS;
      this.say(null);
      if (body) {
        this.take(body);
        if (isFinished(body.job)) return;
      }
    } catch (error) {
      this.pollMs = Math.min(2 * this.pollMs, LAST_POLL_MS);
      this.say(`${error.message} The work goes on; this page asks again.`);
      if (!error.isTemporary) return;
    }
    this.timer = setTimeout(() => this.poll(), this.pollMs);
  }

  say(sentence) {
    this.dispatchEvent(new CustomEvent("connection", { detail: sentence }));
  }
}
