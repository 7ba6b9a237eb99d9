// The small readings on the stage: zoom, scale bar, cursor position, the droplet under the pointer, the draft bar.

import { placeOfBar } from "./barplace.js";
import { byId, setText } from "./dom.js";
import { stateText } from "./filters.js";
import { droplets, fixed, modelName, significant } from "./format.js";

const NICE_LENGTHS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

// What X does to droplets; see Editor.toggleExcluded.
const toggleText = (droplets) => (droplets.every((droplet) => !droplet?.included) ? "Include" : "Exclude");

export class Readouts {
  constructor(workbench) {
    const { stage, annotation, draft } = workbench;
    Object.assign(this, { workbench, stage, annotation, draft });
    stage.addEventListener("view", () => this.showView());
    annotation.addEventListener("calibration", () => this.showView());
    annotation.addEventListener("hover", () => this.showHovered());
    draft.addEventListener("change", () => this.showDraft());
    for (const kind of ["selection", "droplets", "filters", "calibration"])
      annotation.addEventListener(kind, () => this.showSelection());
    this.showView();
  }

  showView() {
    const { view, ratio } = this.stage;
    setText(byId("zoom-level"), `${significant(view.scale * ratio * 100, 3)} %`);
    const { calibration } = this.annotation;
    const bar = byId("scale-bar");
    bar.hidden = !calibration;
    this.placeBars();
    if (!calibration) return;
    const pxPerUm = view.scale / calibration.um_per_px;
    const most = Math.min(160, this.stage.width * 0.3);
    const length = NICE_LENGTHS.findLast((um) => um * pxPerUm <= most) ?? 0.01;
    setText(bar.firstElementChild, length >= 1000 ? `${length / 1000} mm` : `${length} µm`);
    bar.lastElementChild.style.width = `${length * pxPerUm}px`;
  }

  showCursor(at) {
    if (!at.inside || !this.isInside(at)) return setText(byId("cursor-text"), "");
    const { unit, factor } = this.annotation.length;
    const pixels = `${fixed(at.x, 1)}, ${fixed(at.y, 1)} px`;
    setText(
      byId("cursor-text"),
      unit === "px" ? pixels : `${pixels} · ${fixed(at.x * factor, 1)}, ${fixed(at.y * factor, 1)} µm`,
    );
  }

  isInside({ x, y }) {
    return x >= 0 && y >= 0 && x <= this.stage.imageWidth && y <= this.stage.imageHeight;
  }

  showHovered() {
    const droplet = this.annotation.get(this.annotation.hovered);
    const isNamedAbove = droplet && this.annotation.selection.size === 1 && this.annotation.selection.has(droplet.id);
    setText(byId("hover-text"), droplet && !isNamedAbove ? this.describe(droplet) : "");
  }

  describe(droplet) {
    const { unit, factor } = this.annotation.length;
    const state = droplet.included && !droplet.included_although ? "" : ` · ${stateText(droplet)}`;
    return `Droplet ${droplet.id} · ${significant(droplet.diameter_px * factor, 4)} ${unit} · circularity ${fixed(droplet.circularity, 3)}${state}`;
  }

  // The size of the outline that a click would give.
  showPreview(outline) {
    if (this.annotation.hovered !== null) return;
    const { unit, factor } = this.annotation.length;
    // The outlines are DropletNet's; where MobileSAM answers clicks, it draws its own.
    const lead = this.annotation.promptModel === "mobile-sam" ? "DropletNet sees" : "A click outlines";
    setText(byId("hover-text"), outline ? `${lead} ${significant(outline.diameter_px * factor, 3)} ${unit}` : "");
  }

  showDraft() {
    const { draft } = this;
    byId("draft-bar").hidden = !draft.isActive;
    this.showSelection();
    byId("draft-exclude").hidden = draft.standing.length === 0;
    setText(byId("draft-exclude-text"), toggleText(draft.standing.map((id) => this.annotation.get(id))));
    byId("draft-next").hidden = draft.candidates.length < 2;
    byId("draft-commit").disabled = !draft.candidate && !draft.pending;
    setText(byId("draft-text"), this.draftText());
    this.placeBar(byId("draft-bar"), draft.candidate ? [draft.candidate] : []);
  }

  placeBars() {
    this.placeBar(byId("draft-bar"), this.draft.candidate ? [this.draft.candidate] : []);
    this.placeBar(byId("selection-bar"), this.annotation.selected);
  }

  // A bar never lies on the droplets that it is about, where there is a place beside them.
  placeBar(bar, about) {
    if (bar.hidden) return;
    const { stage } = this;
    const size = { width: bar.offsetWidth, height: bar.offsetHeight };
    const rects = about.map(({ bounds: [x0, y0, x1, y1] }) => {
      const [from, to] = [stage.view.toScreen(x0, y0), stage.view.toScreen(x1, y1)];
      return [from.x, from.y, to.x, to.y];
    });
    bar.dataset.place = placeOfBar(size, stage, rects, bar.dataset.place ?? "top");
  }

  // What can be done with the selected droplets; steps aside for a draft.
  showSelection() {
    const { selected } = this.annotation;
    byId("selection-bar").hidden = selected.length === 0 || this.draft.isActive || !byId("tool-bar").hidden;
    if (!selected.length) return;
    setText(
      byId("selection-text"),
      selected.length === 1 ? this.describe(selected[0]) : `${droplets(selected.length)} selected`,
    );
    setText(byId("exclude-text"), toggleText(selected));
    this.placeBar(byId("selection-bar"), selected);
  }

  draftText() {
    const { draft } = this;
    if (draft.message && !draft.pending) return draft.message;
    const { candidate } = draft;
    if (!candidate) return draft.pending ? (this.workbench.finder.waitText ?? "Outlining…") : "";
    const { unit, factor } = this.annotation.length;
    const which = draft.candidates.length > 1 ? `${draft.index + 1} of ${draft.candidates.length} · ` : "";
    const { standing } = draft;
    const instead = standing.length ? ` · replaces ${standing.length === 1 ? `droplet ${standing[0]}` : droplets(standing.length)}` : "";
    const size = `${significant(candidate.diameter_px * factor, 4)} ${unit}`;
    return `${which}${size} · ${modelName(draft.model?.name ?? "")}${instead}`;
  }
}
