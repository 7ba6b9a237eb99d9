// The annotation of one image as the page knows it: droplets, filters, calibration, selection. No network, no DOM.
// Tells listeners what changed by events: "droplets" (set or curation), "filters", "calibration", "regions", "selection", "hover".

import { evaluate, NO_FILTERS } from "./filters.js";
import { boundsOf, SpatialGrid } from "./geometry.js";
import { OF_DROPLETS } from "./patch.js";
import { describe, volumePl } from "./statistics.js";

const NO_SEARCH = Object.freeze({ model: null, timings_s: {}, parameters: {}, message: null, search: 0 });

export class Annotation extends EventTarget {
  constructor(image) {
    super();
    this.image = image;
    this.byId = new Map();
    this.deleted = new Set();
    this.filters = NO_FILTERS;
    this.calibration = null;
    this.regions = []; // where Find looks: {kind, contour}, contour flat
    this.run = { ...NO_SEARCH };
    this.searches = new Map([[0, NO_SEARCH]]); // what is known of each search, by its number
    this.selection = new Set();
    this.hovered = null;
    this.refresh();
  }

  // Takes the server's whole answer. Droplets that it does not list keep their data, so undo can bring them back.
  load(json) {
    const listed = new Set(json.droplets.map(({ id }) => id));
    for (const id of this.byId.keys()) if (!listed.has(id)) this.deleted.add(id);
    for (const droplet of json.droplets) this.put(droplet);
    this.image = json.image;
    this.filters = json.filters ?? NO_FILTERS;
    this.calibration = json.calibration ?? null;
    this.regions = json.regions ?? [];
    this.run = {
      model: json.model,
      timings_s: json.timings_s ?? {},
      parameters: json.parameters,
      message: json.message,
      channel: json.channel ?? null,
      search: json.search ?? 0,
    };
    this.searches.set(this.run.search, this.run);
    this.changed("droplets", "filters", "calibration", "regions");
  }

  // Adds or replaces one droplet that the server answered with.
  put(droplet) {
    droplet.bounds = boundsOf(droplet.contour);
    this.byId.set(droplet.id, droplet);
    this.deleted.delete(droplet.id);
  }

  // Applies a patch (see patch.js) to what is shown.
  apply(patch) {
    for (const id of patch.delete ?? []) this.deleted.add(id);
    for (const id of patch.restore ?? []) this.deleted.delete(id);
    this.mark(patch.exclude, "excluded_by_user", true);
    this.mark(patch.include, "excluded_by_user", false);
    this.mark(patch.include_anyway, "included_by_user", true);
    this.mark(patch.follow_filters, "included_by_user", false);
    if ("filters" in patch) this.filters = patch.filters;
    if ("calibration" in patch) this.calibration = patch.calibration;
    if ("search" in patch) this.showSearch(patch.search);
    if ("channel" in patch) this.run.channel = patch.channel;
    if ("regions" in patch) this.regions = patch.regions;
    if ("rim_offset_px" in patch) this.run.parameters = { ...this.run.parameters, rim_offset_px: patch.rim_offset_px };
    const kinds = OF_DROPLETS.some((name) => patch[name]?.length) ? ["droplets"] : [];
    kinds.push(...["filters", "calibration", "channel", "regions", "assays"].filter((name) => name in patch));
    this.changed(...kinds);
  }

  // The outlines of another search are there again. What this page was not told of it, the server still knows.
  showSearch(number) {
    const known = this.searches.get(number);
    this.run = { ...(known ?? NO_SEARCH), search: number, channel: this.run.channel, isUnknown: !known };
  }

  mark(ids, flag, value) {
    for (const droplet of (ids ?? []).map((id) => this.byId.get(id))) if (droplet) droplet[flag] = value;
  }

  // Filters while a slider moves: shown at once, not yet an edit.
  preview(filters) {
    this.filters = filters;
    this.changed("filters");
  }

  changed(...kinds) {
    if (kinds.includes("droplets")) this.refresh();
    else evaluate(this.droplets, this.filters);
    for (const kind of kinds) this.dispatchEvent(new Event(kind));
  }

  refresh() {
    this.droplets = [...this.byId.values()].filter(({ id }) => !this.deleted.has(id));
    evaluate(this.droplets, this.filters);
    this.cachedGrid = null;
    const gone = [...this.selection].filter((id) => !this.isLive(id));
    if (gone.length) this.select([...this.selection].filter((id) => this.isLive(id)));
    if (this.hovered !== null && !this.isLive(this.hovered)) this.hover(null);
  }

  isLive(id) {
    return this.byId.has(id) && !this.deleted.has(id);
  }

  get(id) {
    return this.isLive(id) ? this.byId.get(id) : null;
  }

  get grid() {
    if (!this.cachedGrid) {
      const sizes = this.droplets.map(({ diameter_px: d }) => d);
      const cell = Math.max(16, 2 * (describe(sizes)?.median ?? 32));
      this.cachedGrid = new SpatialGrid(this.droplets, cell);
    }
    return this.cachedGrid;
  }

  get included() {
    return this.droplets.filter((droplet) => droplet.included);
  }

  select(ids) {
    this.selection = new Set(ids);
    this.dispatchEvent(new Event("selection"));
  }

  get selected() {
    return [...this.selection].map((id) => this.byId.get(id)).filter(Boolean);
  }

  hover(id) {
    if (this.hovered === id) return;
    this.hovered = id;
    this.dispatchEvent(new Event("hover"));
  }

  // Length unit of everything shown: {unit, factor} with shown = px × factor.
  get length() {
    const scale = this.calibration?.um_per_px;
    return scale ? { unit: "µm", factor: scale } : { unit: "px", factor: 1 };
  }

  // How far outside the line of their rims the outlines lie.
  get rimOffsetPx() {
    return this.run.parameters?.rim_offset_px ?? 0;
  }

  // Statistics of the included droplets in the unit shown.
  summary() {
    const { unit, factor } = this.length;
    const diameters = this.included.map(({ diameter_px: d }) => d * factor);
    const height = this.calibration?.chamber_height_um ?? null;
    const volumes = unit === "µm" ? describe(diameters.map((d) => volumePl(d, height))) : null;
    return { unit, found: this.droplets.length, included: diameters.length, diameter: describe(diameters), volumes };
  }
}
