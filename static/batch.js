// The batch page: which images, with which settings. Starting leads to the page of the job.

import { getModels, getObjectives, newKey, startJob } from "./api.js";
import { announce, byId, showError } from "./dom.js";
import { compact, count } from "./format.js";
import { modesOf } from "./models.js";
import { chosenUmPerPx, fillObjectives } from "./objectives.js";
import { Preferences } from "./preferences.js";
import { takeFiles, uploadEach } from "./uploads.js";

const PICKED_KEY = "sam-droplet-batch-picked";
const LOCK_KEY = "sam-droplet-batch-settings";

const picks = byId("picks");
const preferences = new Preferences();
const boxes = () => [...picks.querySelectorAll("input[name=image]")];
const picked = () => boxes().filter((box) => box.checked);
const numberIn = (id) => (byId(id).value.trim() === "" ? null : Number(byId(id).value));

function read(storage, key, otherwise) {
  try {
    return JSON.parse(storage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise; // storage is blocked or damaged
  }
}

function write(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // Storage is blocked: the choice lasts for this page only.
  }
}

// --- images ---

function addCard(image) {
  const known = picks.querySelector(`[data-image-id="${CSS.escape(image.id)}"]`);
  const card = known ?? byId("pick-card").content.firstElementChild.cloneNode(true);
  const field = (name) => card.querySelector(`[data-field="${name}"]`);
  const scale = image.calibration ? `${compact(image.calibration.um_per_px)} µm/px` : "no scale";
  card.dataset.imageId = image.id;
  card.dataset.calibrated = String(image.calibration !== null);
  field("thumbnail").src = image.thumbnail_url;
  field("name").textContent = image.name;
  field("name").title = image.name;
  field("about").textContent = `${image.width} × ${image.height} px, ${scale}`;
  const box = card.querySelector("input");
  box.value = image.id;
  box.checked = true;
  picks.prepend(card);
  show();
}

let uploading = 0;

async function addFiles(files) {
  let opened = 0;
  uploading += 1;
  show();
  try {
    await uploadEach(files, (image) => {
      opened += 1;
      addCard(image);
    });
  } finally {
    uploading -= 1;
    show();
  }
  announce(`${opened} of ${files.length} images added`);
}

// Shift and a click choose everything from the last click on, as in lists of files.
let anchor = null;

picks.addEventListener("click", (event) => {
  const box = event.target.closest?.("input[name=image]");
  if (!box) return;
  if (event.shiftKey && anchor?.isConnected) {
    const all = boxes();
    const [from, to] = [all.indexOf(anchor), all.indexOf(box)].sort((a, b) => a - b);
    for (const between of all.slice(from, to + 1)) between.checked = box.checked;
  }
  anchor = box;
  show();
});

function pick(checked) {
  for (const box of boxes()) box.checked = checked;
  show();
}

byId("pick-all").addEventListener("click", () => pick(true));
byId("pick-none").addEventListener("click", () => pick(false));
takeFiles(addFiles);
window.addEventListener("beforeunload", (event) => {
  if (uploading) event.preventDefault();
});

// --- settings ---

const choice = (name) => document.querySelector(`input[name=${name}]:checked`).value;
const choose = (name, value) => (document.querySelector(`input[name=${name}][value=${value}]`).checked = true);

let modes = ["droplets"]; // that can be had here; others need the weights of MobileSAM

// Like the sensitivity, shared with the page of an image, as far as this server can.
function mode() {
  const wanted = preferences.get("find").mode;
  return modes.includes(wanted) ? wanted : "droplets";
}

async function offerModes() {
  modes = modesOf(await getModels());
  byId("mode-field").hidden = modes.length === 1;
  byId("mode").value = mode();
}

function showLock() {
  const wishes = preferences.get("find");
  const lock = read(localStorage, LOCK_KEY, {});
  const unit = lock.unit ?? (wishes.minUm || wishes.maxUm ? "um" : "px");
  byId("sensitivity").value = wishes.sensitivity;
  byId("size-unit").value = unit;
  showSizes();
  byId("rim-offset").value = wishes.rimPx ?? "";
  choose("filters", lock.filters ?? (lock.excludeEdge || lock.circularityMin ? "alike" : "own"));
  byId("exclude-edge").checked = lock.excludeEdge ?? false;
  byId("circularity-min").value = lock.circularityMin ?? "";
  // The last scale is offered, but never taken over unasked: it would replace what the files say.
  byId("um-per-px").value = lock.umPerPx ?? "";
  byId("chamber-height").value = lock.chamberHeightUm ?? "";
}

// Sizes are kept per unit, and like the offset shared with the page of an image.
const sizeNames = () => (byId("size-unit").value === "um" ? ["minUm", "maxUm"] : ["minPx", "maxPx"]);

function showSizes() {
  const wishes = preferences.get("find");
  const [min, max] = sizeNames();
  byId("size-min").value = wishes[min] ?? "";
  byId("size-max").value = wishes[max] ?? "";
}

function remember() {
  const [min, max] = sizeNames();
  preferences.set("find", {
    ...preferences.get("find"),
    sensitivity: Number(byId("sensitivity").value),
    [min]: numberIn("size-min"),
    [max]: numberIn("size-max"),
    rimPx: numberIn("rim-offset") || null,
    ...(modes.length > 1 && { mode: byId("mode").value }),
  });
  write(localStorage, LOCK_KEY, {
    unit: byId("size-unit").value,
    filters: choice("filters"),
    excludeEdge: byId("exclude-edge").checked,
    circularityMin: numberIn("circularity-min"),
    umPerPx: numberIn("um-per-px"),
    chamberHeightUm: numberIn("chamber-height"),
  });
}

// The settings as the server takes them; throws a sentence where they cannot be.
function lockOptions() {
  // What is no number, such as 25,5 where the browser wants a point, reads as empty.
  const wrong = [...form.querySelectorAll("input[type=number]")].find((input) => input.validity.badInput);
  if (wrong) throw new Error(`${wrong.ariaLabel ?? wrong.closest("label").innerText.trim()}: ${wrong.validationMessage}`);
  const [low, high, circularity] = [numberIn("size-min"), numberIn("size-max"), numberIn("circularity-min")];
  if (low !== null && high !== null && low >= high) throw new Error("The smallest diameter must be below the largest.");
  const isCircularity = circularity === null || choice("filters") === "own" || (circularity >= 0 && circularity <= 1);
  if (!isCircularity) throw new Error("Circularity is a number from 0 to 1.");
  const unit = byId("size-unit").value;
  const ranges = circularity === null ? {} : { circularity: [circularity, null] };
  const options = {
    sensitivity: Number(byId("sensitivity").value),
    [`diameter_min_${unit}`]: low,
    [`diameter_max_${unit}`]: high,
  };
  if (choice("filters") === "alike") options.filters = { ranges, exclude_edge: byId("exclude-edge").checked };
  if (mode() !== "droplets") options.mode = mode();
  if (numberIn("rim-offset")) options.rim_offset_px = numberIn("rim-offset");
  const height = numberIn("chamber-height");
  if (height !== null && !(height > 0)) throw new Error("Type the height of the chamber in micrometres, or leave it empty.");
  if (height !== null) options.chamber_height_um = height;
  if (choice("scale") === "objective") {
    const umPerPx = chosenUmPerPx(byId("objective"));
    if (umPerPx === null) throw new Error("Choose the objective; save one with the scale of an image first.");
    options.calibration = { um_per_px: umPerPx, source: "objective" };
  }
  if (choice("scale") === "typed") {
    const umPerPx = numberIn("um-per-px");
    if (!(umPerPx > 0)) throw new Error("Type the scale for all images: how many micrometres wide one pixel is.");
    options.calibration = { um_per_px: umPerPx, source: "typed" };
  }
  return options;
}

// --- what follows from both ---

function show() {
  const all = boxes();
  const chosen = picked();
  const withoutScale = chosen.filter((box) => box.closest("li").dataset.calibrated === "false").length;
  byId("empty-picks").hidden = all.length > 0;
  byId("picked-note").textContent = all.length ? `${count(chosen.length)} of ${count(all.length)} selected` : "";
  byId("pick-all").disabled = chosen.length === all.length;
  byId("pick-none").disabled = chosen.length === 0;
  byId("sensitivity-value").textContent = Number(byId("sensitivity").value).toFixed(2);
  const note = byId("scale-note");
  note.hidden = withoutScale === 0 || choice("scale") !== "own";
  byId("filters-note").hidden = choice("filters") === "own";
  const have = withoutScale === 1 ? "image has" : "images have";
  note.textContent = `${count(withoutScale)} selected ${have} no scale and will be measured in pixels.`;
  const start = byId("start");
  start.disabled = chosen.length === 0 || uploading > 0 || isStarting;
  if (uploading) start.textContent = "Images are still being added…";
  else if (!chosen.length) start.textContent = "Select images to measure";
  else start.textContent = `Measure ${count(chosen.length)} image${chosen.length === 1 ? "" : "s"}`;
  write(sessionStorage, PICKED_KEY, chosen.map((box) => box.value));
}

const form = byId("batch-form");
form.addEventListener("input", ({ target }) => {
  if (target.closest(".lock")) {
    if (target.id === "size-unit") showSizes();
    if (target.id === "objective") choose("scale", "objective");
    if (target.id === "um-per-px") choose("scale", "typed");
    if (target.closest("#filter-fields")) choose("filters", "alike");
    remember();
  }
  show();
});

// --- starting ---

let isStarting = false;
let started = null; // what was asked for last, and under which key

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (isStarting || !picked().length || uploading) return;
  showError(byId("batch-error"), null);
  isStarting = true;
  show();
  try {
    const options = lockOptions();
    const ids = picked().map((box) => box.value);
    // Kept while the answer is lost, so that pressing again does not start the work twice; another choice is another job.
    const wanted = JSON.stringify([ids, options]);
    if (started?.wanted !== wanted) started = { wanted, key: newKey() };
    const { job } = await startJob(ids, options, started.key);
    location.assign(job.page_url);
  } catch (error) {
    if (error.status !== 0) started = null;
    showError(byId("batch-error"), error.message);
    isStarting = false;
    show();
  }
});

// Coming back with the browser's button finds the page as it was left, ready to start again.
window.addEventListener("pageshow", () => {
  isStarting = false;
  started = null;
  show();
});

const before = new Set(read(sessionStorage, PICKED_KEY, []));
for (const box of boxes()) box.checked = before.has(box.value);
showLock();
show();
preferences.addEventListener("elsewhere", () => {
  showLock();
  byId("mode").value = mode();
  show();
});

offerModes().catch(() => {}); // the plain search is there anyway
// Without them the other two ways to a scale are still there.
getObjectives().then(
  ({ objectives }) => fillObjectives(byId("objective"), objectives),
  () => fillObjectives(byId("objective"), []),
);
