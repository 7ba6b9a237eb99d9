// The page of a job: how far it is, what each image gave, and what to do next. Shows what the server says.

import { cancelJob, retryJob } from "./api.js";
import { boxPlot, sizeAxis, ticksOf } from "./boxstrip.js";
import { announce, byId, element, setText, showError, whileDisabled } from "./dom.js";
import { MISSING, compact, count, durationText, fixed, meanText, significant } from "./format.js";
import { JobFeed } from "./jobfeed.js";
import { pooled } from "./pooled.js";

const jobId = document.body.dataset.jobId;
const rows = byId("rows");
const items = new Map();
const feed = new JobFeed(jobId);

const STAGES = { reading: "Reading", finding: "Finding droplets", measuring: "Measuring", saving: "Saving" };
const STATES = { waiting: "Waiting", done: "Done", failed: "Failed", cancelled: "Cancelled" };

// --- one image ---

function stateText({ state, progress }) {
  if (state !== "running") return STATES[state] ?? state;
  if (!progress) return "Starting…";
  const share = progress.total && progress.done !== null ? ` ${Math.floor((100 * progress.done) / progress.total)} %` : "";
  return `${STAGES[progress.stage] ?? progress.stage}…${share}`;
}

function sizeText(result) {
  const unit = result.mean_diameter_um === null ? "px" : "um";
  const [mean, sd] = [result[`mean_diameter_${unit}`], result[`sd_diameter_${unit}`]];
  if (mean === null) return MISSING;
  return `${meanText(mean, sd)} ${unit === "um" ? "µm" : "px"}`;
}

const percentText = (value) => (value === null ? MISSING : `${fixed(value, 1)} %`);

function countText({ n_included: included, n_found: found }) {
  return included === found ? count(included) : `${count(included)} of ${count(found)}`;
}

function rowOf(position) {
  const known = rows.querySelector(`[data-position="${position}"]`);
  if (known) return known;
  const row = byId("job-row").content.firstElementChild.cloneNode(true);
  row.dataset.position = position;
  rows.append(row);
  return row;
}

function setAddress(node, name, address) {
  if (address === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== address) node.setAttribute(name, address);
}

function showItem(item) {
  const row = rowOf(item.position);
  const field = (name) => row.querySelector(`[data-field="${name}"]`);
  const { result } = item;
  row.dataset.state = item.state;
  setText(field("name"), item.name);
  setAddress(field("name"), "href", item.image_page_url);
  setAddress(field("picture-link"), "href", item.image_page_url);
  setAddress(field("thumbnail"), "src", item.thumbnail_url);
  setText(field("state"), stateText(item));
  setText(field("count"), result ? countText(result) : "");
  setText(field("mean"), result ? sizeText(result) : "");
  setText(field("cv"), result ? percentText(result.cv_percent) : "");
  const notes = [...(item.message ? [item.message] : []), ...item.flags];
  if (!item.image_page_url) notes.push("The image was deleted.");
  field("notes").replaceChildren(...notes.map((text) => element("li", { text })));
}

// --- all images beside each other ---

let axisKey = null;

// Box plots on one axis; all are drawn anew when it grows.
function showSizes(changed) {
  const axis = sizeAxis([...items.values()].map((item) => item.result));
  const key = JSON.stringify(axis);
  for (const item of key === axisKey ? changed : items.values()) {
    const plot = boxPlot(item.result, axis);
    const field = rowOf(item.position).querySelector('[data-field="sizes"]');
    field.replaceChildren(...(plot ? [plot] : []));
    field.parentElement.dataset.label = axis ? `Diameters, ${ticksOf(axis)[0]} to ${ticksOf(axis).at(-1)} ${axis.unit}` : "";
  }
  if (key === axisKey) return;
  axisKey = key;
  setText(byId("sizes-head"), axis ? `Diameters (${axis.unit})` : "Diameters");
  byId("size-ticks").replaceChildren(...(axis ? ticksOf(axis) : []).map((text) => element("span", { text })));
}

// --- the whole job ---

function progressText({ state, progress: { done, total, succeeded, failed, cancelled } }) {
  const problems = failed ? `, ${count(failed)} failed` : "";
  if (state === "done") return `All done: ${count(succeeded)} of ${count(total)} images measured${problems}`;
  if (state === "failed") return `No image could be measured (${count(failed)} failed)`;
  const measured = `${count(succeeded)} of ${count(total)} images measured`;
  if (state === "cancelled") return `Cancelled: ${measured}, ${count(cancelled)} not${problems}`;
  return `${count(done)} of ${count(total)} images${problems}`;
}

function leftText({ state, queue_position: position, remaining_s: seconds }) {
  const estimate = seconds === null ? "" : `about ${durationText(seconds)} left`;
  if (state === "queued" && position > 0) {
    const ahead = `${count(position)} ${position === 1 ? "job" : "jobs"} before this one`;
    return [ahead, estimate].filter(Boolean).join("; ");
  }
  if (state === "queued") return estimate || "waiting for its turn";
  return state === "running" ? estimate || "no time measured yet" : "";
}

const MODE_TEXTS = { refined: "drawn by MobileSAM", everything: "any object, by MobileSAM" };

function lockText({ sensitivity, mode, filters, calibration, rim_offset_px: offset, chamber_height_um: height, ...sizes }) {
  const unit = "diameter_min_um" in sizes || "diameter_max_um" in sizes ? "um" : "px";
  const [low, high] = [sizes[`diameter_min_${unit}`], sizes[`diameter_max_${unit}`]];
  const name = unit === "um" ? "µm" : "px";
  const parts = [`Sensitivity ${Number(sensitivity).toFixed(2)}`];
  if (MODE_TEXTS[mode]) parts.push(MODE_TEXTS[mode]);
  if (low !== undefined || high !== undefined) {
    parts.push(`${high === undefined ? `from ${compact(low)}` : `${compact(low ?? 0)} to ${compact(high)}`} ${name}`);
  }
  if (offset) parts.push(`outlines ${compact(Math.abs(offset))} px ${offset > 0 ? "outside" : "inside"} the rim’s line`);
  if (!filters) parts.push("each image’s own filters");
  if (filters?.exclude_edge) parts.push("not those at the edge");
  const circularity = filters?.ranges?.circularity?.[0];
  if (circularity) parts.push(`circularity at least ${circularity}`);
  if (filters && !filters.exclude_edge && !circularity) parts.push("no filters");
  parts.push(calibration ? `${compact(calibration.um_per_px)} µm/px for all` : "each image’s own scale");
  if (height) parts.push(`chamber ${compact(height)} µm high`);
  return parts.join(" · ");
}

function showPooled() {
  const all = pooled([...items.values()].map((item) => item.result).filter(Boolean));
  const parts = [element("strong", { text: `${count(all.n)} droplet${all.n === 1 ? "" : "s"}` })];
  if (all.mean !== null) parts.push(` in all: mean ${significant(all.mean)} ${all.unit}`);
  if (all.cvPercent !== null) parts.push(`, CV ${fixed(all.cvPercent, 1)} %`);
  byId("pooled").replaceChildren(...parts);
}

let shownState = null;
let isFinished = false;

function showJob(job) {
  const { progress } = job;
  const finished = job.finished_at !== null;
  byId("job-progress").dataset.state = job.state;
  byId("bar").value = progress.done;
  setText(byId("progress-text"), progressText(job));
  setText(byId("left-text"), leftText(job));
  setText(byId("lock-text"), lockText(job.options));
  byId("cancel").hidden = finished;
  const again = progress.failed + progress.cancelled;
  byId("retry").hidden = !finished || again === 0;
  setText(byId("retry"), progress.cancelled ? `Go on with ${count(again)}` : `Try ${count(again)} again`);
  byId("job-downloads").hidden = progress.succeeded === 0;
  const title = finished ? "Batch done" : `${progress.done}/${progress.total} · Batch`;
  document.title = `${title} · SAM Droplet`;
  if (finished && shownState !== null && shownState !== job.state) announce(progressText(job));
  shownState = job.state;
  isFinished = finished;
}

function take({ job, items: changed }) {
  for (const item of changed) {
    items.set(item.position, item);
    showItem(item);
  }
  showJob(job);
  showSizes(changed);
  showPooled();
}

feed.addEventListener("change", ({ detail }) => take(detail));
feed.addEventListener("connection", ({ detail }) => showError(byId("connection"), detail));

async function act(button, action) {
  showError(byId("job-error"), null);
  try {
    take(await action(jobId));
    feed.start();
    // The button that was pressed is gone now: its counterpart takes the focus.
    if (button.hidden) [byId("cancel"), byId("retry")].find((other) => !other.hidden)?.focus();
  } catch (error) {
    showError(byId("job-error"), error.message);
  }
}

for (const [id, action] of [["cancel", cancelJob], ["retry", retryJob]]) {
  const button = byId(id);
  button.addEventListener("click", () => whileDisabled(button, () => act(button, action)));
}

// A page that comes back from the browser's memory, with corrections made meanwhile, asks for everything anew.
window.addEventListener("pageshow", () => feed.start());
document.addEventListener("visibilitychange", () => {
  if (document.hidden && !isFinished) feed.rest();
  else if (!document.hidden) feed.start();
});
window.addEventListener("pagehide", () => feed.stop());
