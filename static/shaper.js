// Changes outlines by hand: the browser works the new ones out, the server measures and keeps them, and the old ones
// go in the same step, so that one undo brings them back.

import { redrawDroplets } from "./api.js";
import { droplets as dropletsText } from "./format.js";
import { circled, ellipsed, grown, merged } from "./reshape.js";

const FRAME_MS = 12;

export class Shaper extends EventTarget {
  constructor({ annotation, editor, autosave, status, imageSize, preferences }) {
    super();
    Object.assign(this, { annotation, editor, autosave, status, imageSize, preferences });
    this.isBusy = false;
  }

  // What a change without a place of its own applies to: the selected droplets, or all.
  get targets() {
    return this.annotation.selected.length ? this.annotation.selected : this.annotation.droplets;
  }

  grow(sign) {
    const px = sign * this.preferences.get("growPx");
    const verb = sign > 0 ? "grow" : "shrink";
    return this.each(`${verb} by ${Math.abs(px)} px`, (contour) => grown(contour, px, this.imageSize));
  }

  fitCircle() {
    return this.each("fit a circle", circled);
  }

  fitEllipse() {
    return this.each("fit an ellipse", ellipsed);
  }

  merge() {
    const { selected } = this.annotation;
    if (selected.length < 2) return this.status.say("Select two or more droplets to merge them");
    const contours = merged(
      selected.map(({ contour }) => contour),
      this.imageSize,
    );
    return this.replace(`merge ${dropletsText(selected.length)}`, pairs(contours, selected[0]), selected);
  }

  // Applies a function from outline to outlines to each target, a few per frame, so that the page stays alive.
  async each(label, reshape) {
    const { targets } = this;
    if (!targets.length) return this.status.say("There is no droplet to change");
    if (!this.begin()) return;
    try {
      const made = [];
      let since = performance.now();
      for (const [index, droplet] of targets.entries()) {
        made.push(...pairs(reshape(droplet.contour), droplet));
        if (performance.now() - since < FRAME_MS) continue;
        this.status.say(`Drawing droplet ${index + 1} of ${targets.length}`, "working");
        await new Promise((resolve) => setTimeout(resolve));
        since = performance.now();
      }
      await this.exchange(targets.length === 1 ? label : `${label}: ${dropletsText(targets.length)}`, made, targets);
    } finally {
      this.isBusy = false;
    }
  }

  // made: [{contour, from}], the droplets that each outline comes from or null; old: droplets that go.
  async replace(label, made, old = []) {
    if (!this.begin()) return;
    try {
      await this.exchange(label, made, old);
    } finally {
      this.isBusy = false;
    }
  }

  begin() {
    if (this.editor.isReadOnly) return false;
    const isFree = !this.isBusy;
    if (!isFree) this.status.say("The last change is still being saved");
    this.isBusy = true;
    return isFree;
  }

  async exchange(label, made, old) {
    if (!made.length) return this.status.say("Nothing would be left of it: delete it instead (Del)");
    const oldIds = old.map(({ id }) => id);
    try {
      if (!(await this.autosave.flush())) throw this.autosave.problem;
      const contours = made.map(({ contour }) => pointsOf(contour));
      const { droplets, revision } = await redrawDroplets(this.annotation.image.id, contours, oldIds);
      this.show(label, droplets, oldIds, droplets.length === made.length ? made : [], revision);
    } catch (error) {
      this.status.notify(error.message);
    }
  }

  show(label, droplets, oldIds, made, revision) {
    const ids = droplets.map(({ id }) => id);
    for (const droplet of droplets) this.annotation.put(droplet);
    this.annotation.apply({ delete: oldIds, restore: ids });
    // What the user had excluded, or included against the filters, stays so.
    const like = (flag) => ids.filter((_, index) => made[index]?.from?.[flag]);
    const [exclude, anyway] = [like("excluded_by_user"), like("included_by_user")];
    if (exclude.length || anyway.length) this.editor.put({ exclude, include_anyway: anyway });
    this.editor.record(label, { restore: ids, delete: oldIds }, { delete: ids, restore: oldIds }, revision);
    if (oldIds.length < 2 || ids.length < 2) this.annotation.select(ids);
    this.status.say(`${label[0].toUpperCase()}${label.slice(1)}: done. Ctrl+Z takes it back`);
  }
}

export const pairs = (contours, from = null) => contours.map((contour) => ({ contour, from }));

function pointsOf(contour) {
  const points = [];
  for (let i = 0; i < contour.length; i += 2) points.push([round(contour[i]), round(contour[i + 1])]);
  return points;
}

const round = (value) => Math.round(value * 1000) / 1000;
