// Follows a job: by a stream of events, and by asking now and then where a stream cannot be had.

import { getJob, UNREACHABLE, watchJob } from "./api.js";

const POLL_MS = 2000;
const LAST_POLL_MS = 20000;
const RESTING_POLL_MS = 10000;
const BROKEN_MS = 4000; // a stream that ends by itself is there again sooner

const isFinished = (job) => job.finished_at !== null;

// Events: "change" with {job, items}, the items being those that changed; "connection" with a sentence or null.
export class JobFeed extends EventTarget {
  constructor(jobId, { watch = watchJob, ask = getJob } = {}) {
    super();
    Object.assign(this, { jobId, watch, ask });
    this.source = null;
    this.timer = null;
    this.breakTimer = null;
    this.etag = null;
    this.pollMs = POLL_MS;
    this.turn = 0; // an answer that comes after a stop belongs to an earlier turn
  }

  start() {
    this.stop();
    this.source = this.watch(this.jobId);
    this.source.addEventListener("job", ({ data }) => this.take(JSON.parse(data)));
    this.source.addEventListener("error", () => this.streamFailed());
    this.source.addEventListener("open", () => this.streamOpened());
  }

  // Asks now and then without holding a connection: browsers open few to a server, over all their tabs together.
  rest() {
    this.stop();
    this.timer = setTimeout(() => this.poll(RESTING_POLL_MS), RESTING_POLL_MS);
  }

  stop() {
    this.turn += 1;
    this.source?.close();
    this.source = null;
    clearTimeout(this.timer);
    this.timer = null;
    clearTimeout(this.breakTimer);
    this.breakTimer = null;
  }

  take(body) {
    this.say(null);
    if (isFinished(body.job)) this.stop();
    this.dispatchEvent(new CustomEvent("change", { detail: body }));
  }

  streamFailed() {
    if (!this.source) return;
    // The browser comes back by itself after a break; only a refused stream is closed for good.
    if (this.source.readyState !== EventSource.CLOSED) {
      this.breakTimer ??= setTimeout(() => this.say(`${UNREACHABLE} This page asks again.`), BROKEN_MS);
      return;
    }
    this.stop();
    this.poll();
  }

  streamOpened() {
    clearTimeout(this.breakTimer);
    this.breakTimer = null;
    this.say(null);
  }

  async poll(everyMs = POLL_MS) {
    const { turn } = this;
    try {
      const { body, etag } = await this.ask(this.jobId, this.etag);
      if (turn !== this.turn) return;
      this.etag = etag;
      this.pollMs = everyMs;
      this.say(null);
      if (body) {
        this.take(body);
        if (isFinished(body.job)) return;
      }
    } catch (error) {
      if (turn !== this.turn) return;
      if (!error.isTemporary) {
        this.say(error.message);
        this.dispatchEvent(new CustomEvent("lost", { detail: error.message }));
        return;
      }
      this.pollMs = Math.min(2 * this.pollMs, LAST_POLL_MS);
      this.say(`${error.message} The work goes on; this page asks again.`);
    }
    this.timer = setTimeout(() => this.poll(everyMs), this.pollMs);
  }

  say(sentence) {
    this.dispatchEvent(new CustomEvent("connection", { detail: sentence }));
  }
}
