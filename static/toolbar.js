// The bar over the image with what the present tool can be told: only the parts that its tool needs are shown.

import { byId, setPressed, setText } from "./dom.js";

// Tools without a bar of their own.
const PLAIN_TEXTS = {
  point: "Click a droplet, or drag a box around it",
  box: "Drag a box around a droplet",
  select: "Click droplets to select them; click one again to exclude or include it",
};
const TEXTS = {
  line: "Drag along something whose length you know, such as the scale bar; Shift keeps it level",
  region: "Drag a rectangle, or click corners",
  polygon: "Click corners, or draw around a droplet",
  brush: "Paint on a droplet",
  split: "Draw a line across a droplet",
};

export class ToolBar {
  constructor(workbench) {
    this.workbench = workbench;
    this.bar = byId("tool-bar");
    const { toolbox, regions } = workbench;
    toolbox.addEventListener("change", () => {
      this.show();
      if (!workbench.editor.isReadOnly) workbench.say(TEXTS[toolbox.name] ?? PLAIN_TEXTS[toolbox.name]);
    });
    regions.addEventListener("change", () => this.showRegions());
    for (const button of document.querySelectorAll("[data-region]"))
      button.addEventListener("click", () => regions.setKind(button.dataset.region));
    for (const button of document.querySelectorAll("[data-clear-regions]"))
      button.addEventListener("click", () => regions.clear());
    const width = byId("brush-width");
    const showWidth = () => {
      const px = workbench.preferences.get("brushPx"); // the keys go beyond the slider
      width.value = px;
      setText(byId("brush-width-value"), `${px} px`);
    };
    width.addEventListener("input", () => workbench.preferences.set("brushPx", Number(width.value)));
    workbench.preferences.addEventListener("change", showWidth);
    showWidth();
    byId("tool-finish").addEventListener("click", () => toolbox.active.finish?.());
    byId("tool-close").addEventListener("click", () => workbench.escape());
    this.show();
    this.showRegions();
  }

  show() {
    const { name } = this.workbench.toolbox;
    this.bar.hidden = !(name in TEXTS);
    setText(byId("tool-text"), TEXTS[name] ?? "");
    for (const part of this.bar.querySelectorAll("[data-for]"))
      part.hidden = !part.dataset.for.split(" ").includes(name);
    this.workbench.readouts?.showSelection();
  }

  showRegions() {
    const { regions } = this.workbench;
    for (const button of document.querySelectorAll("[data-region]"))
      setPressed(button, button.dataset.region === regions.kind);
    for (const button of this.bar.querySelectorAll("[data-clear-regions]")) button.disabled = !regions.list.length;
    byId("find-region").hidden = !regions.list.length;
    this.workbench.draftLayer.setRegions(regions.list);
  }
}
