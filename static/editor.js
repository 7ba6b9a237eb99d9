// Every change to an annotation goes through here: shown at once, saved by Autosave, and one step of undo.

import { reasonFor, reasonText } from "./filters.js";
import { calibrationText, count, droplets as dropletsText } from "./format.js";
import { History } from "./history.js";

export class Editor extends EventTarget {
  // isReadOnly: the page only shows; every change is refused in words.
  constructor(annotation, autosave, { isReadOnly = false } = {}) {
    super();
    this.isReadOnly = isReadOnly;
    this.annotation = annotation;
    this.autosave = autosave;
    this.history = new History(`sam-droplet-undo-${annotation.image.id}`);
  }

  // forward and inverse are patches; see patch.js.
  edit(label, forward, inverse) {
    if (this.isReadOnly) {
      if ("filters" in inverse) this.annotation.preview(inverse.filters);
      return this.refuse();
    }
    this.put(forward);
    this.history.push({ label, forward, inverse });
  }

  refuse() {
    this.say("This image is shared with you to look at: it cannot be changed here");
  }

  // Notes a change that the server has already made, at which revision, and that the annotation already shows.
  record(label, forward, inverse, revision) {
    this.history.push({ label, forward, inverse });
    this.history.keep(revision);
  }

  put(patch) {
    this.annotation.apply(patch);
    this.autosave.add(patch);
  }

  undo() {
    return this.step(this.history.back(), "inverse", "Undid");
  }

  redo() {
    return this.step(this.history.forth(), "forward", "Did again");
  }

  step(step, direction, verb) {
    if (!step) return false;
    this.put(step[direction]);
    this.say(`${verb}: ${step.label}`);
    return true;
  }

  say(text) {
    this.dispatchEvent(new CustomEvent("say", { detail: text }));
  }

  // Excludes those that count; where none does, all count from now on, whatever excluded them.
  toggleExcluded(ids) {
    const all = ids.map((id) => this.annotation.get(id)).filter(Boolean);
    if (!all.length) return;
    const counted = all.filter((droplet) => droplet.included);
    if (counted.length) this.exclude(counted);
    else this.include(all);
  }

  // What counted only by the user's word goes back to the filter that leaves it out.
  exclude(droplets) {
    const out = idsOf(droplets.filter((droplet) => !droplet.included_although));
    const kept = idsOf(droplets.filter((droplet) => droplet.included_by_user));
    this.edit(`exclude ${named(droplets)}`, { exclude: out, follow_filters: kept }, { include: out, include_anyway: kept });
    if (!this.isReadOnly) this.say(`Excluded ${named(droplets)}`);
  }

  include(droplets) {
    const { filters } = this.annotation;
    const out = idsOf(droplets.filter((droplet) => droplet.excluded_by_user));
    const against = droplets.filter((droplet) => reasonFor(droplet, filters) && !droplet.included_by_user);
    const kept = idsOf(against);
    this.edit(`include ${named(droplets)}`, { include: out, include_anyway: kept }, { exclude: out, follow_filters: kept });
    if (this.isReadOnly) return;
    const although = droplets.length === 1 ? reasonText(reasonFor(droplets[0], filters)) : "a filter leaves them out";
    this.say(`Included ${named(droplets)}${kept.length ? ` although: ${although}` : ""}`);
  }

  remove(ids) {
    const live = ids.filter((id) => this.annotation.isLive(id));
    if (!live.length) return;
    const label = live.length === 1 ? `delete droplet ${live[0]}` : `delete ${dropletsText(live.length)}`;
    this.edit(label, { delete: live }, { restore: live });
    if (!this.isReadOnly) this.say(live.length === 1 ? `Deleted droplet ${live[0]}` : `Deleted ${dropletsText(live.length)}`);
  }

  // `before` is what undo returns to: a slider previews values on its way, and those are no steps of their own.
  setFilters(filters, label, before = this.annotation.filters) {
    if (JSON.stringify(filters) === JSON.stringify(before)) return this.annotation.preview(before);
    this.edit(label, { filters }, { filters: before });
    if (this.isReadOnly) return;
    const { droplets, included } = this.annotation;
    this.say(`${capital(label)}: ${count(included.length)} of ${dropletsText(droplets.length)} included`);
  }

  setChannel(channel) {
    const label = channel === null ? "find on all channels" : `find on channel ${channel + 1}`;
    this.edit(label, { channel }, { channel: this.annotation.run.channel ?? null });
  }

  setCalibration(calibration) {
    const label = calibration ? "set the scale" : "remove the scale";
    const before = this.annotation.calibration;
    // The scale that is there already is no step of its own, which undo would seem to ignore.
    if (!isSameScale(calibration, before)) this.edit(label, { calibration }, { calibration: before });
    if (!this.isReadOnly) this.say(`${capital(label)}: ${calibrationText(calibration)}`);
  }
}

const idsOf = (droplets) => droplets.map(({ id }) => id);

const named = (droplets) => (droplets.length === 1 ? `droplet ${droplets[0].id}` : dropletsText(droplets.length));

const isSameScale = (a, b) =>
  a?.um_per_px === b?.um_per_px && a?.source === b?.source && (a?.chamber_height_um ?? null) === (b?.chamber_height_um ?? null);

const capital = (text) => text[0].toUpperCase() + text.slice(1);
