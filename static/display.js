// The display choices: how droplets are drawn and how the image is stretched. Nothing here touches measured data.

import { byId } from "./dom.js";

const STYLES = ["outline", "fill", "none"];

export class Display {
  constructor(preferences, picture, status) {
    this.preferences = preferences;
    this.picture = picture;
    this.status = status;
    this.bind("draw-style", "style");
    this.bind("draw-labels", "labels");
    this.bind("draw-opacity", "opacity", Number);
    this.bindCheck("draw-excluded", "showExcluded");
    this.bindCheck("draw-preview", "preview");
    this.bindCheck("view-stretch", "stretch");
    preferences.addEventListener("change", ({ detail: name }) => {
      if (name === "stretch") this.showPicture();
    });
    document.getElementById("view-channel")?.addEventListener("change", () => this.showPicture());
  }

  bind(id, name, convert = String) {
    const input = byId(id);
    const show = () => (input.value = this.preferences.get(name));
    input.addEventListener("input", () => this.preferences.set(name, convert(input.value)));
    this.preferences.addEventListener("change", show);
    show();
  }

  bindCheck(id, name) {
    const input = byId(id);
    const show = () => (input.checked = this.preferences.get(name));
    input.addEventListener("change", () => this.preferences.set(name, input.checked));
    this.preferences.addEventListener("change", show);
    show();
  }

  showPicture() {
    const channel = document.getElementById("view-channel")?.value ?? "";
    return this.picture.show({ stretch: this.preferences.get("stretch"), channel });
  }

  nextStyle() {
    const next = STYLES[(STYLES.indexOf(this.preferences.get("style")) + 1) % STYLES.length];
    this.preferences.set("style", next);
    this.status.say(
      { outline: "Droplets as outlines", fill: "Droplets filled", none: "Droplets hidden: press O to show them" }[next],
    );
  }

  changeOpacity(by) {
    const opacity = Math.min(Math.max(Math.round((this.preferences.get("opacity") + by) * 10) / 10, 0.1), 1);
    this.preferences.set("opacity", opacity);
  }
}
