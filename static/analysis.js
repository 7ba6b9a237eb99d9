// What follows from the droplets on the server: assays, kept with the image and with its files. No DOM.
// "change" tells that an assay came, changed or went; "problem" brings a sentence.

import { getAssays, getReport, removeAssay, setAssay } from "./api.js";

const SETTLE_MS = 350;

// By assay: the column that tells, and what it tells.
const MARKS = {
  ddpcr: ["amplitude", (value, { threshold }) => (value >= threshold ? "positive" : null)],
  loading: ["n_inclusions", (value) => (value ? "positive" : null)],
  intensity: ["intensity_class", (value) => (value === "high" ? "positive" : null)],
  groups: ["class", (value) => (value === "main" ? null : "other")],
};

const NAMES = { ddpcr: "ddPCR", loading: "loading", groups: "size groups", intensity: "intensity classes" };

function stepText(name, before, after) {
  if (!before) return `set up ${NAMES[name]}`;
  if (!after) return `take ${NAMES[name]} away`;
  const changed = Object.keys(after).filter((key) => JSON.stringify(after[key]) !== JSON.stringify(before[key]));
  return `change ${NAMES[name]}: ${changed.map((key) => key.replace(/_(id|px)$/, "").replaceAll("_", " ")).join(", ")}`;
}

export class Analysis extends EventTarget {
  constructor(annotation, autosave, editor) {
    super();
    this.annotation = annotation;
    this.autosave = autosave;
    this.editor = editor;
    this.assays = {};
    this.edits = 0; // how often an assay was set or removed, begun or done
    this.timer = null;
    this.loads = 0;
    this.isLoaded = false;
    this.isOutdated = false; // an undone or redone step changed settings of assays
    // Every edit changes what is included, and so every number here.
    for (const kind of ["droplets", "filters", "calibration"]) annotation.addEventListener(kind, () => this.schedule());
    annotation.addEventListener("assays", () => {
      this.isOutdated = true;
      this.schedule();
    });
  }

  get isReadOnly() {
    return this.editor.isReadOnly;
  }

  get imageId() {
    return this.annotation.image.id;
  }

  get hasAny() {
    return Object.values(this.assays).some(Boolean);
  }

  schedule() {
    if (!this.isLoaded) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), SETTLE_MS);
    this.dispatchEvent(new Event("stale"));
  }

  async load() {
    this.isLoaded = true;
    this.isOutdated = false;
    const before = this.edits;
    const load = ++this.loads;
    await this.take(async () => {
      const { assays } = await getAssays(this.imageId);
      if (load !== this.loads) return {}; // a later answer knows more
      if (before === this.edits) return assays;
      this.schedule(); // an assay was set meanwhile, which this answer may not know
      return {};
    });
  }

  // Computed from what the server has, so it is sent first.
  async refresh() {
    if (!(await this.autosave.flush())) return; // comes again with the next edit that is saved
    if (this.hasAny || this.isOutdated) await this.load();
    this.dispatchEvent(new Event("fresh"));
  }

  // Sets an assay up; resolves to whether the server took it.
  async set(name, settings) {
    if (!(await this.autosave.flush())) return this.tell(this.autosave.problem.message);
    return this.edit(async () => {
      const { assay, revision } = await setAssay(this.imageId, name, settings);
      this.note(name, assay.settings, revision);
      return { [name]: assay };
    });
  }

  async remove(name) {
    if (!(await this.autosave.flush())) return this.tell(this.autosave.problem.message);
    return this.edit(async () => {
      const { revision } = await removeAssay(this.imageId, name);
      this.note(name, null, revision);
      return { [name]: null };
    });
  }

  // One step of undo, unless nothing was changed.
  note(name, after, revision) {
    const before = this.assays[name]?.settings ?? null;
    if (JSON.stringify(before) === JSON.stringify(after)) return this.editor.history.keep(revision);
    this.editor.record(stepText(name, before, after), { assays: { [name]: after } }, { assays: { [name]: before } }, revision);
  }

  async report() {
    await this.autosave.flush();
    return getReport(this.imageId);
  }

  async edit(ask) {
    this.edits += 1;
    const isTaken = await this.take(ask);
    this.edits += 1;
    return isTaken;
  }

  async take(ask) {
    try {
      const found = await ask();
      this.assays = { ...this.assays, ...found };
      this.tell(null);
      this.dispatchEvent(new Event("change"));
      return true;
    } catch (error) {
      return this.tell(error.message);
    }
  }

  tell(sentence) {
    this.dispatchEvent(new CustomEvent("problem", { detail: sentence }));
    return false;
  }

  // What one assay says of the droplets, for the canvas: id → "positive" or "other". Without a wish, the first there is.
  marks(wanted) {
    const name = [...wanted, "ddpcr", "loading", "intensity", "groups"].find((each) => this.assays[each]?.droplets?.ids);
    if (!name) return new Map();
    const assay = this.assays[name];
    const [column, mark] = MARKS[name];
    const { ids, [column]: values } = assay.droplets;
    const marks = new Map(ids.map((id, index) => [id, mark(values[index], assay)]));
    if (name === "ddpcr" || name === "loading")
      for (const { id } of this.annotation.included) if (!marks.has(id)) marks.set(id, "unread");
    return marks;
  }
}
