// Find droplets: the button, its options, and what is said about the outcome.

import { findDroplets, getAnnotation, getModels } from "./api.js";
import { byId, showError } from "./dom.js";
import { droplets, durationText, modelName, seconds, totalSeconds } from "./format.js";
import { LongSearch } from "./longsearch.js";
import { modesOf } from "./models.js";

const LONG_S = 1; // a search expected to take longer is a job: it shows its progress and can be stopped
const LONG_LOOK_S = 10; // longer than anybody waits for a click without being told
const MOST_ENLARGED_PX = 16e6;
const MOST_MAGNIFICATION = 4;
// Enlarged more, the blocks and fringes of lossy compression look like small droplets.
const MOST_MAGNIFICATION_OF_LOSSY = 2;
const LOSSY = ["jpeg", "webp"];

export class Finder {
  constructor({ annotation, editor, autosave, status, preferences, regions, stage }) {
    Object.assign(this, { annotation, editor, autosave, status, preferences, regions, stage });
    this.isRunning = false;
    this.long = new LongSearch(annotation.image.id);
    this.inputs = { sensitivity: byId("sensitivity"), min: byId("find-min"), max: byId("find-max"), rim: byId("find-rim") };
    for (const id of ["find", "find-again", "welcome-find"]) byId(id).addEventListener("click", () => this.run());
    byId("find-closer").addEventListener("click", () => this.runCloser());
    byId("find-reset").addEventListener("click", () => this.reset());
    const onOpen = byId("find-on-open");
    const showOnOpen = () => (onOpen.checked = preferences.get("findOnOpen"));
    showOnOpen();
    preferences.addEventListener("elsewhere", () => {
      showOnOpen();
      this.show();
    });
    onOpen.addEventListener("change", () => preferences.set("findOnOpen", onOpen.checked));
    for (const input of Object.values(this.inputs)) input.addEventListener("input", () => this.remember());
    this.modes = ["droplets"]; // that can be had here; others need the weights of MobileSAM
    byId("find-mode").addEventListener("change", ({ target }) => {
      this.wish({ mode: target.value });
      this.showMode();
    });
    annotation.addEventListener("calibration", () => this.show());
    annotation.addEventListener("droplets", () => this.showWelcome());
    this.show();
    if (!editor.isReadOnly) this.describeModels();
  }

  // Sizes are kept per unit, since 40 px and 40 µm are different wishes.
  get sizeNames() {
    return this.annotation.length.unit === "µm" ? ["minUm", "maxUm"] : ["minPx", "maxPx"];
  }

  show() {
    const wishes = this.preferences.get("find");
    const [min, max] = this.sizeNames;
    this.inputs.sensitivity.value = wishes.sensitivity;
    this.inputs.min.value = wishes[min] ?? "";
    this.inputs.max.value = wishes[max] ?? "";
    this.inputs.rim.value = wishes.rimPx ?? "";
    byId("sensitivity-value").textContent = Number(wishes.sensitivity).toFixed(2);
    this.showMode();
    for (const unit of document.querySelectorAll("[data-unit]")) unit.textContent = `(${this.annotation.length.unit})`;
  }

  remember() {
    const [min, max] = this.sizeNames;
    const number = (input) => (input.value === "" ? null : Math.max(Number(input.value), 0));
    this.wish({
      sensitivity: Number(this.inputs.sensitivity.value),
      [min]: number(this.inputs.min),
      [max]: number(this.inputs.max),
      rimPx: Number(this.inputs.rim.value) || null,
    });
    byId("sensitivity-value").textContent = Number(this.inputs.sensitivity.value).toFixed(2);
  }

  showMode() {
    byId("find-mode").value = this.mode;
    if (!this.models) return;
    const { find_model: find, prompt_model: prompt } = this.models;
    const isPlain = this.mode === "droplets";
    byId("find-model").textContent =
      `Searching: ${modelName(isPlain ? find : prompt)}. Clicks and boxes: ${modelName(prompt)}.`;
  }

  wish(wishes) {
    this.preferences.set("find", { ...this.preferences.get("find"), ...wishes });
  }

  // What the search is for, as far as this server can.
  get mode() {
    const { mode } = this.preferences.get("find");
    return this.modes.includes(mode) ? mode : "droplets";
  }

  reset() {
    const sizes = { minUm: null, maxUm: null, minPx: null, maxPx: null, rimPx: null };
    this.preferences.set("find", { sensitivity: 0.5, ...sizes, mode: "droplets" });
    this.show();
    showError(byId("find-error"), null);
  }

  // The options as the server takes them; a sentence instead where they contradict each other.
  options() {
    const { factor } = this.annotation.length;
    const wishes = this.preferences.get("find");
    const [min, max] = this.sizeNames.map((name) => (wishes[name] ? wishes[name] / factor : null));
    // What is no number, such as 25,5 where the browser wants a point, reads as empty.
    const wrong = [this.inputs.min, this.inputs.max].find((input) => input.validity.badInput);
    if (wrong) return { problem: `Diameter: ${wrong.validationMessage}` };
    if (min !== null && max !== null && min >= max)
      return { problem: "The smallest diameter must be below the largest." };
    const options = { sensitivity: wishes.sensitivity };
    if (min !== null) options.diameter_min_px = min;
    if (max !== null) options.diameter_max_px = max;
    if (!this.inputs.rim.checkValidity()) return { problem: `Outline offset: ${this.inputs.rim.validationMessage}` };
    if (wishes.rimPx) options.rim_offset_px = wishes.rimPx;
    if (this.mode !== "droplets") options.mode = this.mode;
    if (this.regions.bounds) options.roi_xyxy = this.regions.bounds;
    return { options };
  }

  get isLossy() {
    return LOSSY.includes(this.annotation.image.format);
  }

  // What is on screen, enlarged: the part of the image and by how much; null where that would enlarge nothing.
  get closeUp() {
    const [x0, y0, x1, y1] = this.stage.visibleRect;
    const { imageWidth, imageHeight } = this.stage;
    const roi = [Math.max(x0, 0), Math.max(y0, 0), Math.min(x1, imageWidth), Math.min(y1, imageHeight)];
    const width = roi[2] - roi[0],
      height = roi[3] - roi[1];
    if (width < 4 || height < 4) return null;
    const most = this.isLossy ? MOST_MAGNIFICATION_OF_LOSSY : MOST_MAGNIFICATION;
    const magnification = Math.min(most, Math.sqrt(MOST_ENLARGED_PX / (width * height)) / 1.3);
    return magnification < 1.5 ? null : { roi_xyxy: roi, magnification: Math.round(magnification * 10) / 10 };
  }

  // Looks again at what is on screen, enlarged: for droplets too small for the whole image.
  runCloser() {
    const { closeUp } = this;
    if (closeUp) return this.run(closeUp);
    this.status.notify("Zoom in first: a closer look is taken at what is on screen, and that is too much now.", "info");
  }

  async run(place = null) {
    if (this.isRunning || this.editor.isReadOnly) return;
    const { options: wishes, problem } = this.options();
    const options = { ...wishes, ...place };
    showError(byId("find-error"), problem);
    if (problem) {
      if (!byId("find-popover").matches(":popover-open")) this.status.notify(problem);
      return;
    }
    byId("find-popover").hidePopover();
    this.setRunning(true);
    this.status.clearNotice();
    this.status.work(place ? `Looking ${place.magnification} times closer` : "Finding droplets");
    try {
      if (!(await this.autosave.flush())) throw this.autosave.problem;
      if (this.isLong(options)) await this.finishLong(this.long.start(options), place);
      else this.finish(await findDroplets(this.annotation.image.id, options), place);
    } catch (error) {
      this.status.notify(error.message);
    } finally {
      this.setRunning(false);
    }
  }

  // A region does not shorten the first look, which is at the whole image; a closer look sees only its own part.
  isLong({ magnification, roi_xyxy: roi, mode }) {
    if (mode) return true; // MobileSAM is asked hundreds of times
    if (!magnification) return this.wholeLookS > LONG_S;
    const px = (roi[2] - roi[0]) * (roi[3] - roi[1]) * magnification ** 2;
    return px / this.preferences.get("pxPerS") > LONG_S;
  }

  // How long a look at the whole image is expected to take.
  get wholeLookS() {
    return (this.stage.imageWidth * this.stage.imageHeight) / this.preferences.get("pxPerS");
  }

  // Whether a preview may ask for the outlines. They come from a look at the whole image, which a search is
  // taking already, or which would keep the server from a search for long: without progress, and not to be stopped.
  get mayLookAhead() {
    return !this.isRunning && (this.annotation.byId.size > 0 || this.wholeLookS <= LONG_LOOK_S);
  }

  // What to say about a click that waits for the look at the whole image; null where that takes no time to speak of.
  get waitText() {
    if (this.wholeLookS <= LONG_LOOK_S || this.annotation.byId.size) return null;
    if (this.isRunning) return "Outlining… This click is answered once the search is through";
    return `Outlining… The first click looks at the whole image: about ${durationText(this.wholeLookS)}`;
  }

  // From an answer of the networks; what came from memory tells nothing of how long they take.
  learnSpeed({ timings_s: { propose = 0 } = {} }) {
    const { imageWidth, imageHeight } = this.stage;
    if (propose > 0.05) this.preferences.set("pxPerS", Math.round((imageWidth * imageHeight) / propose));
  }

  // Takes up a search that went on while the page was away.
  async resume() {
    const job = await this.long.unfinished();
    if (!job || this.isRunning) return;
    this.setRunning(true);
    this.status.work("Finding droplets");
    try {
      await this.finishLong(this.long.follow(job));
    } catch (error) {
      this.status.notify(error.message);
    } finally {
      this.setRunning(false);
    }
  }

  async finishLong(ended, place = null) {
    const { state, message } = await ended;
    if (state === "cancelled") return this.status.say("Search stopped; nothing was changed");
    if (state !== "done") return this.status.notify(message ?? "The search failed; try again.");
    if (!(await this.autosave.flush())) throw this.autosave.problem;
    const saved = await getAnnotation(this.annotation.image.id);
    const before = new Set(this.annotation.droplets.map(({ id }) => id));
    const after = new Set(saved.droplets.map(({ id }) => id));
    const found = saved.droplets.filter((droplet) => isFoundIn(place?.roi_xyxy, droplet));
    const answer = {
      ...saved,
      found: found.map(({ id }) => id),
      added: [...after].filter((id) => !before.has(id)),
      removed: [...before].filter((id) => !after.has(id)),
    };
    this.finish(answer, place);
  }

  finish(answer, place = null) {
    const offsetBefore = this.annotation.rimOffsetPx;
    const searchBefore = this.annotation.run.search;
    this.annotation.load(answer);
    const offset = this.annotation.rimOffsetPx;
    // Edits made while the search ran are not in its answer: show them again.
    this.annotation.apply(this.autosave.unsaved);
    const correction = this.regions.correction(answer);
    if (correction.delete.length || correction.restore.length) this.editor.put(correction);
    const added = without(answer.added, correction.delete);
    const isNew = new Set(answer.added);
    // What was there before, as it was found again, and lies in a zone left out by now, goes, too.
    const left = correction.delete.filter((id) => !isNew.has(id));
    const removed = [...without(answer.removed, correction.restore), ...left];
    if (added.length || removed.length) {
      const forth = { restore: added, delete: removed, search: this.annotation.run.search },
        back = { delete: added, restore: removed, search: searchBefore };
      if (offset !== offsetBefore) {
        forth.rim_offset_px = offset;
        back.rim_offset_px = offsetBefore;
      }
      this.editor.record("find droplets", forth, back, answer.revision);
    } else this.editor.history.keep(answer.revision);
    const took = totalSeconds(answer.timings_s ?? {});
    const isSearched = (id) => this.regions.isSearched(this.annotation.byId.get(id));
    const found = without(answer.found, correction.delete).filter(isSearched);
    if (!found.length)
      return this.status.notify(answer.message ?? "0 droplets found. Try a higher sensitivity.", "info");
    if (!place) this.learnSpeed(answer);
    const where = this.regions.list.length ? " where you asked" : "";
    const text = `${droplets(found.length)} found${where}${took ? ` in ${seconds(took)}` : ""}`;
    const lossy = place && this.isLossy ? "Looked only 2 times closer: JPEG and WebP hold no finer detail" : null;
    this.status.say([text, answer.message, lossy].filter(Boolean).join(". "));
  }

  setRunning(running) {
    this.isRunning = running;
    if (running) this.pressed = document.activeElement;
    for (const id of ["find", "find-again", "welcome-find"]) byId(id).disabled = running;
    byId("find").setAttribute("aria-busy", String(running));
    this.showWelcome();
    // As whileDisabled in dom.js: the keyboard finds itself where it was, or else at the droplets.
    if (!running && document.activeElement === document.body)
      (this.pressed.checkVisibility() ? this.pressed : this.stage.root).focus({ preventScroll: true });
  }

  showWelcome() {
    byId("welcome").hidden = this.isRunning || this.editor.isReadOnly || !this.isLoaded || this.annotation.byId.size > 0;
  }

  setLoaded() {
    this.isLoaded = true;
    this.showWelcome();
  }

  async describeModels() {
    try {
      const models = await getModels();
      this.annotation.promptModel = models.prompt_model;
      this.modes = modesOf(models);
      byId("find-mode-row").hidden = this.modes.length === 1;
      this.models = models;
      this.showMode();
    } catch {
      byId("find-model").textContent = ""; // only a hint: the answer to each request names its model anyway
    }
  }
}

// What a search leaves behind: everything else in its place was there before and is the user's.
function isFoundIn(roi, { source, excluded_by_user: isOut, included_by_user: isKept, center_x_px: x, center_y_px: y }) {
  const isInside = !roi || (roi[0] <= x && x < roi[2] && roi[1] <= y && y < roi[3]);
  return source === "auto" && !isOut && !isKept && isInside;
}

function without(ids, gone) {
  const set = new Set(gone);
  return ids.filter((id) => !set.has(id));
}
