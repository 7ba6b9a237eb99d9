// Joins the parts of the annotate page: what tools, keys and buttons ask for, said once.

import { listImages } from "./api.js";
import { announce, byId, setPressed } from "./dom.js";
import { significant } from "./format.js";

const LEFT_BY_ESCAPE = ["line", "region", "polygon", "brush", "split"];

export class Workbench {
  // Takes the parts by name: stage, annotation, autosave, editor, draft, overlay, draftLayer, status, preferences, sheet, tabs.
  constructor(parts) {
    Object.assign(this, parts);
    this.sign = 1;
    this.keeping = null; // the droplet on its way to the server
    this.called = 0; // how often drafts were called off
    this.pointer = null;
    this.neighbours = { previous: null, next: null };
    this.imageSize = { width: this.stage.imageWidth, height: this.stage.imageHeight };
    const showTurbo = () => setPressed(byId("turbo"), this.preferences.get("turbo"));
    this.preferences.addEventListener("change", showTurbo);
    showTurbo();
  }

  isInside(x, y) {
    return x >= 0 && y >= 0 && x <= this.imageSize.width && y <= this.imageSize.height;
  }

  say(text) {
    this.status.say(text);
  }

  // --- prompts ---

  addPoint(x, y, isPositive) {
    return this.inTurn(() => {
      const isFirst = !this.draft.isActive || this.draft.hasFailed;
      const asked = this.draft.addPoint(x, y, isPositive);
      return this.preferences.get("turbo") && isFirst && isPositive ? this.keepAfter(asked) : asked;
    });
  }

  setBox(box) {
    return this.inTurn(() => {
      const asked = this.draft.setBox(box);
      return this.preferences.get("turbo") ? this.keepAfter(asked) : asked;
    });
  }

  // Whoever clicks on while a droplet is being kept means the next one, unless Esc came in between.
  async inTurn(ask) {
    const { called } = this;
    while (this.keeping) await this.keeping;
    if (called === this.called) await ask();
  }

  keepAfter(asked) {
    return this.keep(asked.then(() => this.draft.candidate && this.store()));
  }

  keep(kept) {
    this.keeping = kept.finally(() => (this.keeping = null));
    return this.keeping;
  }

  async commitDraft() {
    // Enter pressed twice keeps one droplet.
    if (this.toolbox.active.finish?.() || !this.draft.isActive || this.keeping) return;
    await this.keep(this.store());
  }

  async store() {
    try {
      const kept = await this.draft.commit();
      if (!kept) return this.say(this.draft.message ?? "There is no outline to keep");
      const { droplet, replaced } = kept;
      const { unit, factor } = this.annotation.length;
      const instead = replaced.length ? ` in place of droplet ${replaced.join(", ")}` : "";
      this.say(`Kept droplet ${droplet.id}${instead}: ${significant(droplet.diameter_px * factor, 4)} ${unit}`);
    } catch (error) {
      this.status.notify(error.message);
    }
  }

  cancelDraft() {
    this.called += 1;
    return this.draft.clear();
  }

  setSign(sign) {
    this.sign = sign;
    for (const button of document.querySelectorAll("[data-sign]"))
      setPressed(button, Number(button.dataset.sign) === sign);
    this.stage.root.dataset.sign = sign;
  }

  toggleTurbo() {
    const turbo = !this.preferences.get("turbo");
    this.preferences.set("turbo", turbo);
    this.say(
      turbo
        ? "One click now keeps the droplet at once; Ctrl+Z takes it back"
        : "A click now makes a draft; Enter keeps it",
    );
  }

  showRubber(kind, box) {
    this.draftLayer.setRubber(kind ? { kind, box } : null);
  }

  // --- curation ---

  toggleExcluded() {
    const { annotation } = this;
    if (this.draft.standing.length) return this.excludeStanding();
    const hit = this.pointer && annotation.grid.at(this.pointer.x, this.pointer.y);
    if (annotation.selection.size && !(hit && !annotation.selection.has(hit.id)))
      this.editor.toggleExcluded([...annotation.selection]);
    else if (hit) this.editor.toggleExcluded([hit.id]);
    else this.say("Point at a droplet, or select some, then press X");
  }

  // A click on what is outlined already may have meant: not this one.
  excludeStanding() {
    const { standing } = this.draft;
    this.cancelDraft();
    this.editor.toggleExcluded(standing);
  }

  removeSelected() {
    this.editor.remove([...this.annotation.selection]);
  }

  selectAll() {
    this.annotation.select(this.annotation.droplets.map(({ id }) => id));
  }

  // Takes back the last prompt, or the last corner of an outline being drawn.
  removeLast() {
    return this.draft.removeLast() || (this.toolbox.active.removeLast?.() ?? false);
  }

  undo() {
    if (this.removeLast()) return;
    if (!this.editor.undo()) this.say("Nothing to undo");
  }

  redo() {
    if (this.draft.restoreLast()) return;
    if (!this.editor.redo()) this.say("Nothing to redo");
  }

  // Selects the next droplet in reading order; false at the end of the list.
  step(by) {
    const order = this.readingOrder();
    if (!order.length) return false;
    const [current] = this.annotation.selection;
    const at = order.findIndex(({ id }) => id === current);
    const next = order[at < 0 ? (by > 0 ? 0 : order.length - 1) : at + by];
    if (!next) return false;
    this.annotation.select([next.id]);
    // So that Tab goes on from here.
    if (document.activeElement === document.body) this.stage.root.focus({ preventScroll: true });
    this.stage.reveal(next.bounds);
    announce(this.readouts.describe(next));
    return true;
  }

  // Tab steps only from a selected droplet, so that the keyboard is never caught in the canvas.
  tabStep(by) {
    if (document.activeElement !== this.stage.root || !this.annotation.selection.size) return false;
    return this.step(by);
  }

  readingOrder() {
    const { droplets } = this.annotation;
    const band = this.annotation.grid.cell / 2;
    const row = ({ center_y_px: y }) => Math.floor(y / band);
    return [...droplets].sort((a, b) => row(a) - row(b) || a.center_x_px - b.center_x_px);
  }

  openDroplet(id) {
    const droplet = this.annotation.get(id);
    if (droplet) this.stage.reveal(droplet.bounds);
  }

  escape() {
    this.gestures.abandon();
    if (this.cancelDraft()) return this.say("Draft cancelled");
    if (this.toolbox.active.cancel?.()) return this.say("Outline cancelled");
    if (LEFT_BY_ESCAPE.includes(this.toolbox.name)) return this.toolbox.enable("point");
    this.annotation.select([]);
    this.annotation.hover(null);
    this.status.clearNotice();
  }

  // --- scale line ---

  showLine(line) {
    this.draftLayer.setLine(line);
  }

  askLineLength([from, to]) {
    this.calibrator.askLength(Math.hypot(to.x - from.x, to.y - from.y));
  }

  // --- page ---

  togglePanel() {
    document.body.classList.toggle("panel-hidden");
  }

  openTab(id) {
    document.body.classList.remove("panel-hidden");
    this.sheet.set("half");
    this.tabs.open(byId(id));
    byId(id).focus();
  }

  openHelp() {
    byId("shortcuts").showModal();
  }

  async save() {
    this.say((await this.autosave.flush()) ? "Saved" : `Not saved yet. ${this.autosave.problem.message}`);
  }

  async openNeighbour(by) {
    const url = by < 0 ? this.neighbours.previous : this.neighbours.next;
    if (!url) return this.say(by < 0 ? "This is the first image" : "This is the last image");
    return this.openPage(url);
  }

  // Leaves for another image, once this one is saved.
  async openPage(url) {
    if (await this.autosave.flush()) location.assign(url);
    else this.say(`Not saved yet, so this image stays open. ${this.autosave.problem.message}`);
  }

  // The image list decides what A and D open. Without it the arrows stay away.
  async findNeighbours() {
    const images = await listImages().catch(() => []);
    // In the order they were opened: the list's own order changes with every edit.
    const rank = ({ created_at: when, name, id }) => `${when} ${name} ${id}`;
    images.sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
    this.imageList.fill(images);
    const at = images.findIndex(({ id }) => id === this.annotation.image.id);
    if (at < 0) return;
    this.neighbours = { previous: images[at - 1]?.page_url ?? null, next: images[at + 1]?.page_url ?? null };
    for (const name of ["previous", "next"]) {
      const link = byId(`${name}-image`);
      link.hidden = images.length < 2;
      if (this.neighbours[name]) link.href = this.neighbours[name];
      else {
        link.setAttribute("role", "link");
        link.setAttribute("aria-disabled", "true");
      }
    }
  }
}
