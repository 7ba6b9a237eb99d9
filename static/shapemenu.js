// The menu of changes to whole outlines: what it applies to, by how much, and a button for each.

import { byId, setText } from "./dom.js";
import { droplets } from "./format.js";

export class ShapeMenu {
  constructor(shaper) {
    const actions = {
      grow: () => shaper.grow(1),
      shrink: () => shaper.grow(-1),
      fitCircle: () => shaper.fitCircle(),
      fitEllipse: () => shaper.fitEllipse(),
      merge: () => shaper.merge(),
    };
    this.shaper = shaper;
    this.buttons = [...document.querySelectorAll("[data-shape]")];
    for (const button of this.buttons) button.addEventListener("click", actions[button.dataset.shape]);
    const step = byId("grow-px");
    step.value = shaper.preferences.get("growPx");
    step.addEventListener("input", () => {
      const px = Number(step.value);
      if (px > 0 && px <= 100) shaper.preferences.set("growPx", px);
    });
    for (const kind of ["selection", "droplets"]) shaper.annotation.addEventListener(kind, () => this.show());
    this.show();
  }

  show() {
    const { selected, droplets: all } = this.shaper.annotation;
    const what = selected.length ? `the ${droplets(selected.length)} selected` : `all ${droplets(all.length)}`;
    setText(byId("shape-what"), all.length ? `Changes ${what}` : "There is no droplet to change yet");
    for (const button of this.buttons)
      button.disabled = button.dataset.shape === "merge" ? selected.length < 2 : !all.length;
  }
}
