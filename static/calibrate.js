// The scale: typed in µm per pixel, or from a line whose true length is known.

import { byId, showError } from "./dom.js";
import { calibrationText, compact, significant } from "./format.js";

const SCALE_ADVICE = "Type how many micrometres one pixel is, for example 0.65.";

export class Calibrator {
  constructor(annotation, editor, { startLine, clearLine }) {
    this.annotation = annotation;
    this.editor = editor;
    this.linePx = null;
    this.typedHeight = 0; // of the chamber, before a line was asked for; 0 without
    this.shown = null; // the scale that the fields tell of
    this.popover = byId("calibrate-popover");
    byId("calibrate-form").addEventListener("submit", (event) => this.submitTyped(event));
    byId("calibrate-line-form").addEventListener("submit", (event) => this.submitLine(event));
    byId("calibrate-line").addEventListener("click", () => {
      this.typedHeight = Number(byId("calibrate-height").value);
      this.popover.hidePopover();
      startLine();
    });
    byId("calibrate-remove").addEventListener("click", () => this.set(null));
    // Before it is shown: the toggle event comes later, and would empty a field that is being filled in already.
    this.popover.addEventListener("beforetoggle", (event) => {
      if (event.newState === "open") return this.show();
      this.linePx = null;
      clearLine();
    });
    // An objective that was picked: the fields must not set the scale of before once more.
    annotation.addEventListener("calibration", () => {
      if (this.popover.matches(":popover-open") && JSON.stringify(annotation.calibration) !== this.shown) this.show();
    });
  }

  show() {
    const { calibration } = this.annotation;
    this.shown = JSON.stringify(calibration);
    byId("calibrate-now").textContent = calibration
      ? `Now ${calibrationText(calibration)}.`
      : "This image has no scale, so every number is in pixels.";
    byId("calibrate-value").value = calibration ? compact(calibration.um_per_px) : "";
    byId("calibrate-height").value = calibration?.chamber_height_um ? compact(calibration.chamber_height_um) : "";
    byId("calibrate-remove").hidden = !calibration;
    if (this.linePx === null) this.typedHeight = 0;
    byId("calibrate-line-form").hidden = this.linePx === null;
    byId("calibrate-form").hidden = this.linePx !== null;
    showError(byId("calibrate-error"), null);
  }

  // Asks for the true length of a line that was just drawn.
  askLength(lengthPx) {
    if (lengthPx < 2) return;
    this.linePx = lengthPx;
    byId("calibrate-line-px").textContent = significant(lengthPx, 5);
    byId("calibrate-line-um").value = "";
    // After this event: the release of the pointer that drew the line would close the popover again.
    setTimeout(() => {
      this.popover.showPopover();
      byId("calibrate-line-um").focus();
    });
  }

  submitTyped(event) {
    event.preventDefault();
    const [value, height] = [byId("calibrate-value").value, byId("calibrate-height").value];
    // A height that is no number reads as empty, which would make spheres of flattened droplets.
    if (byId("calibrate-height").validity.badInput || (height !== "" && !(Number(height) > 0)))
      return showError(byId("calibrate-error"), "Type the height of the chamber in micrometres, or leave it empty.");
    const now = this.annotation.calibration;
    const isSame = now && value === compact(now.um_per_px); // keeps its source, and digits that are not shown
    const nowHeight = now?.chamber_height_um ?? null;
    const isSameHeight = nowHeight !== null && height === compact(nowHeight);
    this.setFrom(
      isSame ? now.um_per_px : Number(value),
      isSame ? now.source : "typed",
      height === "" ? SCALE_ADVICE : `The height needs a scale. ${SCALE_ADVICE}`,
      height === "" ? null : isSameHeight ? nowHeight : Number(height),
    );
  }

  submitLine(event) {
    event.preventDefault();
    this.setFrom(
      Number(byId("calibrate-line-um").value) / this.linePx,
      "line",
      "Type the true length of the line in micrometres, for example 100.",
      this.typedHeight > 0 ? this.typedHeight : undefined,
    );
  }

  // A scale found in another way leaves the chamber as it is.
  setFrom(umPerPx, source, advice, height = this.annotation.calibration?.chamber_height_um ?? null) {
    if (!(umPerPx > 0) || !Number.isFinite(umPerPx)) return showError(byId("calibrate-error"), advice);
    this.set({ um_per_px: umPerPx, source, chamber_height_um: height });
  }

  set(calibration) {
    this.editor.setCalibration(calibration);
    this.popover.hidePopover();
  }
}
