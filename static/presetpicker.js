// Filters for common samples: one choice sets all of them, as one step of undo. Limits follow from these droplets.

import { getPresets } from "./api.js";
import { byId, element } from "./dom.js";

export class PresetPicker {
  constructor(annotation, editor, autosave) {
    Object.assign(this, { annotation, editor, autosave });
    this.select = byId("preset");
    this.presets = [];
    // Ahead of the choice; where that fails, the choice tries again and says why.
    this.select.addEventListener("focus", () => this.load().catch(() => {}));
    this.select.addEventListener("change", () => this.apply());
    this.select.addEventListener("keydown", (event) => this.openInstead(event));
    this.fill();
  }

  // The arrow keys would choose the first preset at once, and so none of the others: they open the list.
  openInstead(event) {
    const isStep = ["ArrowDown", "ArrowUp"].includes(event.key) && !event.altKey;
    if (!isStep || !CSS.supports("selector(:open)") || this.select.matches(":open")) return;
    event.preventDefault();
    this.select.showPicker();
  }

  fill() {
    const first = element("option", { value: "", text: "Choose a preset…" });
    const titles = this.presets.length ? this.presets : NAMES;
    this.select.replaceChildren(
      first,
      ...titles.map(({ name, title, description }) => element("option", { value: name, text: title, title: description })),
    );
  }

  async load() {
    await this.autosave.flush();
    this.presets = await getPresets(this.annotation.image.id);
  }

  async apply() {
    const { value } = this.select;
    if (!value) return;
    try {
      await this.load();
      const { filters, title } = this.presets.find(({ name }) => name === value);
      this.editor.setFilters(filters, `preset ${title}`);
      this.editor.say(`Preset ${title}: ${this.presets.find(({ name }) => name === value).description}`);
    } catch (error) {
      this.editor.say(error.message);
    }
    this.select.value = ""; // a preset is a start; the filters below say what holds
  }
}

const NAMES = [
  { name: "monodisperse", title: "Monodisperse emulsion" },
  { name: "polydisperse", title: "Polydisperse emulsion" },
  { name: "ddpcr", title: "Digital PCR" },
  { name: "particles", title: "Beads or cells" },
];
