// Brightness, contrast and gamma of the picture on screen: a curve that the browser lays over the canvas.
// The measured pixels, and the picture that the server sends, stay as they are.

import { byId, setText } from "./dom.js";

const NEUTRAL = { brightness: 0, contrast: 0, gamma: 1 };
const STEPS = 32;

// The brightness shown, 0 to 1, for each of 33 brightnesses from 0 to 1. brightness and contrast: -100 to 100, where
// contrast 100 keeps only black and white; gamma: above 1 lifts the dark.
export function toneCurve({ brightness, contrast, gamma }) {
  const slope = Math.tan(((Math.min(contrast, 99) + 100) * Math.PI) / 400);
  return Array.from({ length: STEPS + 1 }, (_, i) => {
    const value = slope * ((i / STEPS) ** (1 / gamma) - 0.5) + 0.5 + brightness / 100;
    return Math.min(Math.max(value, 0), 1);
  });
}

export class Tone {
  constructor(preferences, canvas) {
    Object.assign(this, { preferences, canvas });
    this.inputs = Object.keys(NEUTRAL).map((name) => byId(`tone-${name}`));
    for (const input of this.inputs) input.addEventListener("input", () => this.remember());
    byId("tone-reset").addEventListener("click", () => preferences.set("tone", NEUTRAL));
    preferences.addEventListener("change", ({ detail: name }) => name === "tone" && this.show());
    this.show();
  }

  remember() {
    const values = this.inputs.map((input) => Number(input.value));
    this.preferences.set("tone", Object.fromEntries(Object.keys(NEUTRAL).map((name, i) => [name, values[i]])));
  }

  show() {
    const tone = { ...NEUTRAL, ...this.preferences.get("tone") };
    const isNeutral = Object.keys(NEUTRAL).every((name) => tone[name] === NEUTRAL[name]);
    Object.keys(NEUTRAL).forEach((name, i) => {
      this.inputs[i].value = tone[name];
      setText(byId(`tone-${name}-value`), name === "gamma" ? tone[name].toFixed(2) : String(tone[name]));
    });
    byId("tone-reset").disabled = isNeutral;
    const table = toneCurve(tone).map((value) => value.toFixed(4)).join(" ");
    for (const curve of document.querySelectorAll("#tone > feComponentTransfer > *")) curve.setAttribute("tableValues", table);
    this.canvas.style.filter = isNeutral ? "" : "url(#tone)";
    document.querySelector("[popovertarget=display-popover]").classList.toggle("is-on", !isNeutral);
  }
}
