// Shows under the pointer the outline that a click would give. The outlines come from the server once per image, the
// first time that a pointer wants them; after that every move is answered here.

import { getProposals } from "./api.js";
import { boundsOf } from "./geometry.js";
import { Proposals } from "./proposals.js";

const RETRY_MS = 15000;

export class Preview extends EventTarget {
  // isWanted tells whether a click at the pointer would be a prompt, mayLoad whether this is a time to ask the server.
  constructor(annotation, preferences, { isWanted, mayLoad = () => true, load = getProposals }) {
    super();
    Object.assign(this, { annotation, preferences, isWanted, mayLoad, load });
    this.proposals = null;
    this.waitUntil = 0;
    this.pointer = null;
    this.index = null;
    this.outline = null; // {contour, bounds, isSure, diameter_px}
    preferences.addEventListener("change", () => this.update());
    for (const kind of ["droplets", "hover"]) annotation.addEventListener(kind, () => this.update());
  }

  // pointer: {x, y} in image coordinates, or null when it has left.
  move(pointer) {
    this.pointer = pointer;
    this.update();
  }

  update() {
    const { pointer } = this;
    const isOn = pointer && this.preferences.get("preview") && this.isWanted(pointer);
    if (!isOn || this.annotation.grid.at(pointer.x, pointer.y)) return this.show(null);
    if (!this.proposals) return this.fetch();
    this.show(this.proposals.at(pointer.x, pointer.y));
  }

  show(found) {
    const index = found?.index ?? null;
    if (index === this.index) return;
    this.index = index;
    this.outline = null;
    if (found) {
      // As the image's outlines were found, so clicks are answered.
      const offset = this.annotation.rimOffsetPx;
      const contour = this.proposals.contour(index, offset);
      const diameter_px = this.proposals.diameter(index, offset);
      this.outline = { contour, bounds: boundsOf(contour), isSure: found.isSure, diameter_px };
    }
    this.dispatchEvent(new Event("change"));
  }

  async fetch() {
    if (performance.now() < this.waitUntil || !this.mayLoad()) return;
    this.waitUntil = Infinity;
    try {
      this.proposals = new Proposals(await this.load(this.annotation.image.id));
    } catch {
      this.waitUntil = performance.now() + RETRY_MS; // busy or away: a preview is no reason to interrupt anybody
      return;
    }
    this.update();
  }
}
