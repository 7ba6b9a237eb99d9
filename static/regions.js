// Where Find looks: regions to search in and zones to leave out, as polygons. Kept for this browser tab, so a reload
// does not lose them; what they did to the droplets is saved like any edit.

import { boundsOf, contains } from "./geometry.js";

const KEY = "sam-droplet-regions-";
const KINDS = ["search", "leave-out"];

function read(imageId) {
  try {
    const list = JSON.parse(sessionStorage.getItem(KEY + imageId)) ?? [];
    return list.filter(({ kind, contour }) => KINDS.includes(kind) && contour.every(Number.isFinite));
  } catch {
    return []; // storage blocked or damaged: no region
  }
}

export class Regions extends EventTarget {
  constructor(annotation, editor) {
    super();
    this.annotation = annotation;
    this.editor = editor;
    this.kind = "search";
    this.list = read(annotation.image.id);
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

  edit(label, list) {
    const before = this.list;
    this.put(list);
    this.editor.history.push({ label, redo: () => this.put(list), undo: () => this.put(before) });
  }

  put(list) {
    this.list = list;
    try {
      sessionStorage.setItem(KEY + this.annotation.image.id, JSON.stringify(list));
    } catch {
      // Storage is blocked: the regions last until the page is left.
    }
    this.dispatchEvent(new Event("change"));
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
  // those that it removed there come back.
  correction(added, removed) {
    const get = (id) => this.annotation.byId.get(id);
    return {
      delete: added.filter((id) => !this.isSearched(get(id)) || this.isLeftOut(get(id))),
      restore: removed.filter((id) => this.annotation.byId.has(id) && !this.isSearched(get(id))),
    };
  }
}
