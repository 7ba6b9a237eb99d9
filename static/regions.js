// Where Find looks: regions to search in and zones to leave out, as polygons. Saved with the image like any edit, so
// neither a reload nor a restart loses them. The annotation holds them.

import { boundsOf, contains } from "./geometry.js";

export class Regions extends EventTarget {
  constructor(annotation, editor) {
    super();
    this.annotation = annotation;
    this.editor = editor;
    this.kind = "search";
    annotation.addEventListener("regions", () => this.show());
  }

  get list() {
    return this.annotation.regions;
  }

  show() {
    this.dispatchEvent(new Event("change"));
  }

  setKind(kind) {
    this.kind = kind;
    this.dispatchEvent(new Event("change"));
  }

  // contour: flat polygon in image coordinates.
  add(contour) {
    const name = this.kind === "search" ? "search region" : "left-out zone";
    this.edit(`draw a ${name}`, [...this.list, { kind: this.kind, contour }]);
  }

  clear() {
    if (this.list.length) this.edit("clear the regions", []);
  }

  edit(label, regions) {
    this.editor.edit(label, { regions }, { regions: this.list });
  }

  of(kind) {
    return this.list.filter((region) => region.kind === kind);
  }

  // The box around all search regions, which the server searches; null for the whole image.
  get bounds() {
    const searched = this.of("search").flatMap(({ contour }) => contour);
    return searched.length ? boundsOf(searched) : null;
  }

  isSearched({ center_x_px: x, center_y_px: y }) {
    const searched = this.of("search");
    return !searched.length || searched.some(({ contour }) => contains(contour, x, y));
  }

  isLeftOut({ center_x_px: x, center_y_px: y }) {
    return this.of("leave-out").some(({ contour }) => contains(contour, x, y));
  }

  // What to change after the server has searched the box: droplets that it added outside the polygons go again, and
  // those that it removed there come back. What it found as it was before goes only from the left-out zones.
  correction({ found, added, removed }) {
    const get = (id) => this.annotation.byId.get(id);
    const isNew = new Set(added);
    return {
      delete: found.filter((id) => this.isLeftOut(get(id)) || (isNew.has(id) && !this.isSearched(get(id)))),
      restore: removed.filter((id) => get(id) && !this.isSearched(get(id))),
    };
  }
}
