// Saved objectives: picked or saved in the scale's popover, and picked on the batch page. Kept on the server.

import { deleteObjective, getObjectives, saveObjective } from "./api.js";
import { byId, element, showError } from "./dom.js";
import { compact } from "./format.js";

export async function fillObjectives(select, objectives) {
  const { value } = select;
  select.replaceChildren(
    element("option", { value: "", text: objectives.length ? "Choose…" : "None saved yet" }),
    ...objectives.map(({ name, um_per_px: um }) =>
      element("option", { value: name, text: `${name}: ${compact(um)} µm/px`, data: { umPerPx: String(um) } }),
    ),
  );
  select.disabled = objectives.length === 0;
  select.value = objectives.some(({ name }) => name === value) ? value : "";
}

export const chosenUmPerPx = (select) => Number(select.selectedOptions[0]?.dataset.umPerPx) || null;

// The part of the scale's popover; onPick gets the calibration, now says the scale in force.
export class ObjectivePicker {
  constructor({ onPick, now }) {
    this.onPick = onPick;
    this.now = now;
    this.select = byId("objective");
    this.name = byId("objective-name");
    this.problem = byId("calibrate-error");
    this.request = 0;
    this.select.addEventListener("change", () => this.pick());
    byId("objective-form").addEventListener("submit", (event) => this.save(event));
    byId("objective-delete").addEventListener("click", () => this.forget());
    byId("calibrate-popover").addEventListener("toggle", (event) => event.newState === "open" && this.open());
  }

  open() {
    byId("objective-form").hidden = !this.now();
    return this.show(getObjectives);
  }

  async show(ask) {
    const request = ++this.request;
    try {
      const { objectives } = await ask();
      if (request !== this.request) return; // a later answer knows more
      await fillObjectives(this.select, objectives);
      byId("objective-delete").hidden = !this.select.value;
    } catch (error) {
      showError(this.problem, error.message);
    }
  }

  pick() {
    const um = chosenUmPerPx(this.select);
    byId("objective-delete").hidden = um === null;
    if (um !== null) this.onPick({ um_per_px: um, source: "objective" });
  }

  save(event) {
    event.preventDefault();
    const name = this.name.value.trim();
    const scale = this.now();
    if (!name || !scale) return showError(this.problem, "Type a name for the objective, for example 20x.");
    return this.show(async () => {
      const saved = await saveObjective(name, scale.um_per_px);
      this.name.value = "";
      showError(this.problem, null);
      return saved;
    });
  }

  forget() {
    const { value } = this.select;
    if (value) this.show(() => deleteObjective(value));
  }
}
