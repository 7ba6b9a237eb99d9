// The tools that draw outlines: polygon, brush and eraser, and the line that splits.

import { boundsOf } from "./geometry.js";
import { brushed, split } from "./reshape.js";
import { isCut } from "./shapes.js";
import { pairs } from "./shaper.js";
import { SketchTool } from "./sketch.js";

export class PolygonTool extends SketchTool {
  done(contour) {
    this.workbench.shaper.replace("draw a droplet", pairs([contour]));
  }
}

// Paints on the droplet that a stroke begins in, else on the selected one, else a new one.
export class BrushTool {
  constructor(workbench) {
    this.workbench = workbench;
    this.dragsWithTouch = true;
    this.line = null;
  }

  get width() {
    return this.workbench.preferences.get("brushPx");
  }

  tap({ x, y, isNegative }) {
    this.line = [x, y];
    this.end(this.isAdding(isNegative));
  }

  dragMove(from, to, event) {
    this.line ??= [from.x, from.y];
    this.line.push(to.x, to.y);
    this.show(to, this.isAdding(event.shiftKey));
  }

  dragEnd(from, to, event) {
    this.end(this.isAdding(event.shiftKey));
  }

  dragCancel() {
    this.line = null;
    this.hover(null);
  }

  disable() {
    this.dragCancel();
  }

  hover(pointer) {
    this.show(pointer, this.isAdding(false));
  }

  isAdding(isReversed) {
    return (this.workbench.sign === 1) !== isReversed;
  }

  show(pointer, isAdding) {
    const brush = pointer && { ...pointer, width: this.width, isAdding, line: this.line };
    this.workbench.draftLayer.setBrush(brush);
  }

  target([x, y]) {
    const { annotation } = this.workbench;
    const { selected } = annotation;
    const hit = annotation.grid.at(x, y);
    const isOnSelected = hit && annotation.selection.has(hit.id);
    return hit && !isOnSelected ? hit : selected.length === 1 ? selected[0] : hit;
  }

  async end(isAdding) {
    const { line, workbench } = this;
    const droplet = this.target(line);
    this.line = null;
    if (!droplet && !isAdding) {
      this.hover(null);
      return workbench.say("Begin inside the droplet that you want to cut from");
    }
    const made = this.painted(droplet, line, isAdding);
    const label = made.isNew ? "paint a droplet" : `${isAdding ? "paint on" : "rub out"} droplet ${droplet.id}`;
    await workbench.shaper.replace(label, pairs(made.contours, made.isNew ? null : droplet), made.isNew ? [] : [droplet]);
    if (workbench.toolbox.active === this) this.hover(workbench.pointer);
  }

  // A stroke that does not touch the selected droplet is a new one.
  painted(droplet, line, isAdding) {
    const { imageSize } = this.workbench;
    const alone = () => ({ isNew: true, contours: brushed(null, line, this.width, true, imageSize).slice(0, 1) });
    if (!droplet) return alone();
    const contours = brushed(droplet.contour, line, this.width, isAdding, imageSize);
    if (isAdding && contours.length > 1) return alone();
    return { isNew: false, contours: contours.slice(0, 1) };
  }
}

export class SplitTool {
  constructor(workbench) {
    this.workbench = workbench;
    this.dragsWithTouch = true;
  }

  tap() {
    this.workbench.say("Drag a line across the droplet");
  }

  dragMove(from, to) {
    this.workbench.draftLayer.setSketch({ points: [from, to], corners: 2 });
  }

  dragCancel() {
    this.workbench.draftLayer.setSketch(null);
  }

  disable() {
    this.dragCancel();
  }

  // The selected droplets that the line crosses, else all that it crosses.
  dragEnd(from, to) {
    this.dragCancel();
    const { annotation, imageSize, shaper } = this.workbench;
    const crossed = annotation.grid
      .inRect(boundsOf([from.x, from.y, to.x, to.y]))
      .filter(({ contour }) => isCut(contour, from, to));
    const chosen = crossed.filter(({ id }) => annotation.selection.has(id));
    const cut = (chosen.length ? chosen : crossed)
      .map((droplet) => ({ droplet, pieces: split(droplet.contour, from, to, imageSize) }))
      .filter(({ pieces }) => pieces.length > 1);
    if (!cut.length) return this.workbench.say("The line has to cross a droplet from side to side");
    const old = cut.map(({ droplet }) => droplet);
    const label = old.length === 1 ? `split droplet ${old[0].id}` : `split ${old.length} droplets`;
    const made = cut.flatMap(({ droplet, pieces }) => pairs(pieces, droplet));
    shaper.replace(label, made, old);
  }
}
