// A search that takes long, as a job on the server: its true progress in a bar over the image, with a way to stop it.
// It goes on while the page is away, and a reloaded page finds it again.

import { cancelJob, getJob, newKey, startFind } from "./api.js";
import { byId, setText } from "./dom.js";
import { count, droplets, durationText } from "./format.js";
import { JobFeed } from "./jobfeed.js";

const KEY = "sam-droplet-search-";
const STAGES = { reading: "Reading the image", finding: "Looking for droplets", measuring: "Measuring droplet", saving: "Saving" };

// A job is forgotten some time after it has ended: a laptop that slept through that asks too late.
const LOST =
  "The server no longer knows this search. Reload the page to see what it found; if there is nothing, search again.";

export class LongSearch extends EventTarget {
  constructor(imageId) {
    super();
    this.imageId = imageId;
    this.bar = byId("work-bar");
    this.job = null;
    byId("work-cancel").addEventListener("click", () => this.cancel());
  }

  // The job that this tab began and did not see the end of, or null.
  get begun() {
    try {
      return sessionStorage.getItem(KEY + this.imageId);
    } catch {
      return null;
    }
  }

  remember(jobId) {
    try {
      if (jobId) sessionStorage.setItem(KEY + this.imageId, jobId);
      else sessionStorage.removeItem(KEY + this.imageId);
    } catch {
      // Storage is blocked: a reloaded page will not find the search again.
    }
  }

  // The job that went on while the page was away, or null where it was stopped or failed meanwhile. One that is
  // done counts: it may have ended just after the page had fetched the droplets.
  async unfinished() {
    if (!this.begun) return null;
    const job = await getJob(this.begun).then(({ body }) => body.job, () => null);
    if (job && (job.finished_at === null || job.state === "done")) return job.id;
    this.remember(null);
    return null;
  }

  // Resolves to {state, message} when the search has ended.
  async start(options) {
    const { job } = await startFind(this.imageId, options, newKey());
    return this.follow(job.id);
  }

  follow(jobId) {
    this.remember(jobId);
    this.job = jobId;
    this.show({ state: "queued", queue_position: 0, remaining_s: null }, null);
    const feed = new JobFeed(jobId);
    return new Promise((resolve) => {
      feed.addEventListener("connection", ({ detail }) => detail && setText(byId("work-text"), detail));
      feed.addEventListener("change", ({ detail: { job, items } }) => {
        this.show(job, items[0]);
        if (job.finished_at === null) return;
        this.end();
        resolve({ state: job.state, message: items[0]?.message ?? null });
      });
      feed.addEventListener("lost", () => {
        this.end();
        resolve({ state: "lost", message: LOST });
      });
      feed.start();
    });
  }

  show(job, item) {
    this.bar.hidden = false;
    setText(byId("work-text"), workText(job, item?.progress));
    const { done, total } = item?.progress ?? {};
    const progress = byId("work-progress");
    if (total && done !== null) Object.assign(progress, { max: total, value: done });
    else progress.removeAttribute("value"); // under way, with nothing counted yet
  }

  end() {
    this.remember(null);
    this.job = null;
    this.bar.hidden = true;
    byId("work-cancel").disabled = false;
  }

  async cancel() {
    byId("work-cancel").disabled = true;
    setText(byId("work-text"), "Stopping…");
    try {
      await cancelJob(this.job);
    } catch (error) {
      setText(byId("work-text"), error.message);
      byId("work-cancel").disabled = false;
    }
  }
}

export function workText({ state, queue_position: position, remaining_s: seconds }, progress) {
  const left = seconds ? `, about ${durationText(seconds)} left` : "";
  if (state === "queued") return position ? `Waiting: ${position} before this one${left}` : `Waiting for its turn${left}`;
  const stage = STAGES[progress?.stage] ?? "Looking for droplets";
  return `${stage}${countText(progress ?? {})}${left}`;
}

// What is saved is not counted on its way.
function countText({ done = null, total = null } = {}) {
  if (!total) return "";
  return done === null ? ` ${droplets(total)}` : ` ${count(done)} of ${count(total)}`;
}
