// Find droplets: the button, its options, and what is said about the outcome.

import { findDroplets, getModels } from "./api.js";
import { byId, showError } from "./dom.js";
import { droplets, modelName, seconds, totalSeconds } from "./format.js";

export class Finder {
  constructor({ annotation, editor, autosave, status, preferences, regions }) {
    Object.assign(this, { annotation, editor, autosave, status, preferences, regions });
    this.isRunning = false;
    this.inputs = { sensitivity: byId("sensitivity"), min: byId("find-min"), max: byId("find-max") };
    for (const id of ["find", "find-again", "welcome-find"]) byId(id).addEventListener("click", () => this.run());
    byId("find-reset").addEventListener("click", () => this.reset());
    for (const input of Object.values(this.inputs)) input.addEventListener("input", () => this.remember());
    annotation.addEventListener("calibration", () => this.show());
    annotation.addEventListener("droplets", () => this.showWelcome());
    this.show();
    this.describeModels();
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
    byId("sensitivity-value").textContent = Number(wishes.sensitivity).toFixed(2);
    for (const unit of document.querySelectorAll("[data-unit]")) unit.textContent = `(${this.annotation.length.unit})`;
  }

  remember() {
    const [min, max] = this.sizeNames;
    const number = (input) => (input.value === "" ? null : Math.max(Number(input.value), 0));
    this.preferences.set("find", {
      ...this.preferences.get("find"),
      sensitivity: Number(this.inputs.sensitivity.value),
      [min]: number(this.inputs.min),
      [max]: number(this.inputs.max),
    });
    byId("sensitivity-value").textContent = Number(this.inputs.sensitivity.value).toFixed(2);
  }

  reset() {
    this.preferences.set("find", { sensitivity: 0.5, minUm: null, maxUm: null, minPx: null, maxPx: null });
    this.show();
    showError(byId("find-error"), null);
  }

  // The options as the server takes them; a sentence instead where they contradict each other.
  options() {
    const { factor } = this.annotation.length;
    const wishes = this.preferences.get("find");
    const [min, max] = this.sizeNames.map((name) => (wishes[name] ? wishes[name] / factor : null));
    if (min !== null && max !== null && min >= max)
      return { problem: "The smallest diameter must be below the largest." };
    const options = { sensitivity: wishes.sensitivity };
    if (min !== null) options.diameter_min_px = min;
    if (max !== null) options.diameter_max_px = max;
    if (this.regions.bounds) options.roi_xyxy = this.regions.bounds;
    return { options };
  }

  async run() {
    if (this.isRunning) return;
    const { options, problem } = this.options();
    showError(byId("find-error"), problem);
    if (problem) {
      if (!byId("find-popover").matches(":popover-open")) this.status.notify(problem);
      return;
    }
    byId("find-popover").hidePopover();
    this.setRunning(true);
    this.status.clearNotice();
    this.status.work("Finding droplets");
    try {
      if (!(await this.autosave.flush())) throw this.autosave.problem;
      this.finish(await findDroplets(this.annotation.image.id, options));
    } catch (error) {
      this.status.notify(error.message);
    } finally {
      this.setRunning(false);
    }
  }

  finish(answer) {
    this.annotation.load(answer);
    // Edits made while the search ran are not in its answer: show them again.
    this.annotation.apply(this.autosave.unsaved);
    const correction = this.regions.correction(answer.added, answer.removed);
    if (correction.delete.length || correction.restore.length) this.editor.put(correction);
    const added = without(answer.added, correction.delete);
    const removed = without(answer.removed, correction.restore);
    this.editor.record("find droplets", { restore: added, delete: removed }, { delete: added, restore: removed });
    const took = totalSeconds(answer.timings_s ?? {});
    if (!added.length)
      return this.status.notify(answer.message ?? "0 droplets found. Try a higher sensitivity.", "info");
    const where = this.regions.list.length ? " where you asked" : "";
    const text = `${droplets(added.length)} found${where}${took ? ` in ${seconds(took)}` : ""}`;
    this.status.say(answer.message ? `${text}. ${answer.message}` : text);
  }

  setRunning(running) {
    this.isRunning = running;
    for (const id of ["find", "find-again", "welcome-find"]) byId(id).disabled = running;
    byId("find").setAttribute("aria-busy", String(running));
    this.showWelcome();
  }

  showWelcome() {
    byId("welcome").hidden = this.isRunning || !this.isLoaded || this.annotation.byId.size > 0;
  }

  setLoaded() {
    this.isLoaded = true;
    this.showWelcome();
  }

  async describeModels() {
    try {
      const models = await getModels();
      byId("find-model").textContent =
        `Searching: ${modelName(models.find_model)}. Clicks and boxes: ${modelName(models.prompt_model)}.`;
    } catch {
      byId("find-model").textContent = ""; // only a hint: the answer to each request names its model anyway
    }
  }
}

function without(ids, gone) {
  const set = new Set(gone);
  return ids.filter((id) => !set.has(id));
}
