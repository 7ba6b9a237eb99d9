// The annotate page: makes the parts, joins them, and opens the image that the page names.

import { getAnnotation } from "./api.js";
import { Analysis } from "./analysis.js";
import { AnalysisTab } from "./analysistab.js";
import { Autosave } from "./autosave.js";
import { Calibrator } from "./calibrate.js";
import { Stage } from "./canvas.js";
import { chooseChannel, choosePage } from "./channels.js";
import { commandsFor, isForGuests } from "./commands.js";
import { Display } from "./display.js";
import { byId } from "./dom.js";
import { buildDownloads, offerPairWith } from "./downloads.js";
import { Draft } from "./draft.js";
import { DraftLayer } from "./draftlayer.js";
import { openDroppedFiles } from "./dropin.js";
import { Editor } from "./editor.js";
import { FilterView } from "./filterview.js";
import { Finder } from "./finder.js";
import { droplets } from "./format.js";
import { Gestures } from "./gestures.js";
import { Histogram } from "./histogram.js";
import { ImageList } from "./imagelist.js";
import { Keys } from "./keys.js";
import { ObjectivePicker } from "./objectives.js";
import { Overlay } from "./overlay.js";
import { Panel } from "./panel.js";
import { Picture } from "./picture.js";
import { placePopovers, Sheet, Tabs } from "./popovers.js";
import { Preferences } from "./preferences.js";
import { PresetPicker } from "./presetpicker.js";
import { Preview } from "./preview.js";
import { Readouts } from "./readouts.js";
import { Annotation } from "./state.js";
import { Regions } from "./regions.js";
import { RegionTool } from "./regiontool.js";
import { ShapeMenu } from "./shapemenu.js";
import { Sharing } from "./share.js";
import { Shaper } from "./shaper.js";
import { BrushTool, PolygonTool, SplitTool } from "./shapetools.js";
import { Status } from "./status.js";
import { Table } from "./table.js";
import { Tone } from "./tone.js";
import { ToolBar } from "./toolbar.js";
import { Toolbox } from "./tools.js";
import { Workbench } from "./workbench.js";

const imageId = document.body.dataset.imageId;
const preferences = new Preferences();
const annotation = new Annotation({ id: imageId });
const autosave = new Autosave(imageId);
const isShared = "shared" in document.body.dataset;
const editor = new Editor(annotation, autosave, { isReadOnly: isShared });
const status = new Status(autosave);
const stage = new Stage(byId("stage"));
const picture = new Picture(stage);
const overlay = new Overlay(stage, annotation, preferences);
const draft = new Draft(annotation, editor);
const draftLayer = new DraftLayer(stage, annotation, draft, overlay);
const regions = new Regions(annotation, editor);
const sheet = new Sheet(byId("panel"), byId("sheet-handle"));
const tabs = new Tabs(document.querySelector(".tabs"));

const workbench = new Workbench({
  stage,
  annotation,
  autosave,
  editor,
  draft,
  overlay,
  draftLayer,
  regions,
  status,
  preferences,
  sheet,
  tabs,
});
const shaper = new Shaper(workbench);
workbench.shaper = shaper;
const toolbox = new Toolbox(workbench, [...document.querySelectorAll("[data-tool]:is(button)")], {
  region: new RegionTool(workbench),
  polygon: new PolygonTool(workbench),
  brush: new BrushTool(workbench),
  split: new SplitTool(workbench),
});
const gestures = new Gestures(stage, () => toolbox.active);
const readouts = new Readouts(workbench);
const finder = new Finder(workbench);
const display = new Display(preferences, picture, status);
new Tone(preferences, byId("image-layer"));
const calibrator = new Calibrator(annotation, editor, {
  startLine: () => toolbox.enable("line"),
  clearLine: () => draftLayer.setLine(null),
});
Object.assign(workbench, { toolbox, gestures, readouts, finder, display, calibrator });

workbench.imageList = new ImageList(workbench);
new ToolBar(workbench);
new ShapeMenu(shaper);

const preview = new Preview(annotation, preferences, {
  isWanted: ({ x, y }) =>
    toolbox.name === "point" && !draft.isActive && !gestures.gesture && workbench.isInside(x, y),
  mayLoad: () => finder.mayLookAhead,
});
preview.addEventListener("change", () => {
  draftLayer.setPreview(preview.outline);
  readouts.showPreview(preview.outline);
});
draft.addEventListener("change", () => preview.update());
toolbox.addEventListener("change", () => preview.update());

placePopovers();
new Panel(annotation, isShared ? null : editor);
new Histogram(annotation, editor);
new FilterView(annotation, editor);
const table = new Table(annotation, { onOpen: (id) => workbench.openDroplet(id) });
buildDownloads(imageId, autosave, status, loadNews);
if (isShared) {
  toolbox.lock("select");
  byId("scale-chip").disabled = true; // it only tells
} else {
  new Sharing(imageId, status);
  openDroppedFiles(autosave, status, preferences);
  choosePage(annotation, autosave, status);
  chooseChannel(annotation, editor);
  new PresetPicker(annotation, editor, autosave);
  new ObjectivePicker({
    onPick: (scale) => editor.setCalibration({ ...annotation.calibration, ...scale }),
    now: () => annotation.calibration,
  });
}
const analysis = new Analysis(annotation, autosave, editor);
offerPairWith(analysis);
const analysisTab = new AnalysisTab(analysis, overlay);
tabs.addEventListener("open", ({ detail: tab }) => {
  table.schedule();
  if (tab === "tab-analysis") analysisTab.open();
  if (sheet.panel.dataset.sheet === "peek") sheet.set("half");
  sheet.showFrom(document.querySelector(".tabs"));
});

function holdKey(code, held) {
  if (code === "KeyH") overlay.setHidden(held);
  else if (code === "Space") gestures.setPanKey(held);
  else return false;
  return held;
}

// To guests, the keys that their sheet does not name say why.
const forGuests = (command) => (isForGuests(command) ? command : { ...command, run: () => editor.refuse() });
const commands = commandsFor(workbench);
new Keys(isShared ? commands.map(forGuests) : commands, { onHold: holdKey, isShown: isShared ? isForGuests : undefined });
gestures.addEventListener("hover", ({ detail }) => {
  workbench.pointer = detail.inside ? detail : null;
  annotation.hover(detail.inside ? (annotation.grid.at(detail.x, detail.y)?.id ?? null) : null);
  if (!gestures.gesture) toolbox.active.hover?.(workbench.pointer);
  preview.move(workbench.pointer);
  readouts.showCursor(detail);
});

const buttons = {
  undo: () => workbench.undo(),
  redo: () => workbench.redo(),
  exclude: () => editor.toggleExcluded([...annotation.selection]),
  delete: () => workbench.removeSelected(),
  turbo: () => workbench.toggleTurbo(),
  help: () => workbench.openHelp(),
  "zoom-in": () => stage.zoomBy(1.25),
  "zoom-out": () => stage.zoomBy(0.8),
  "zoom-fit": () => stage.fit(),
  "zoom-level": () => stage.actualSize(),
  deselect: () => annotation.select([]),
  "draft-exclude": () => workbench.excludeStanding(),
  "draft-next": () => draft.next(),
  "draft-cancel": () => workbench.escape(),
  "draft-commit": () => workbench.commitDraft(),
};
for (const [id, run] of Object.entries(buttons)) byId(id).addEventListener("click", run);
for (const button of document.querySelectorAll("[data-sign]"))
  button.addEventListener("click", () => workbench.setSign(Number(button.dataset.sign)));

// After a click on a button the keys belong to the image again: Space pans, it does not press the button once more.
document.addEventListener("click", ({ detail: clicks, target }) => {
  const button = target.closest?.(".topbar button, .toolbar button, .stage-area button");
  if (clicks > 0 && button && !button.hasAttribute("popovertarget") && !document.querySelector("dialog[open]")) {
    stage.root.focus({ preventScroll: true });
  }
});

function showUndo() {
  const { undoLabel, redoLabel } = editor.history;
  byId("undo").disabled = !undoLabel && !draft.isActive;
  byId("redo").disabled = !redoLabel && !draft.undone.length;
  byId("undo").title = undoLabel ? `Undo: ${undoLabel} (Ctrl+Z)` : "Undo (Ctrl+Z)";
  // The counterpart takes the focus of the button that has nothing more to do.
  for (const [spent, other] of [["undo", "redo"], ["redo", "undo"]])
    if (byId(spent).disabled && document.activeElement === byId(spent)) byId(other).focus();
  byId("redo").title = redoLabel ? `Redo: ${redoLabel} (Ctrl+Shift+Z)` : "Redo (Ctrl+Shift+Z)";
}

editor.history.addEventListener("change", showUndo);
draft.addEventListener("change", showUndo);
editor.addEventListener("say", ({ detail }) => status.say(detail));
let isBehind = false; // the server holds what this page does not show
// What the server refused cannot stand on the page either.
autosave.addEventListener("refused", async ({ detail: error }) => {
  status.notify(`This change was not accepted. ${error.message}`);
  isBehind = true;
  await loadAnew();
});

// The server counts, too. Where it comes to another number, or was told more than this page did, from another tab or
// by a batch, its answer is what the files will hold.
autosave.addEventListener("answer", async ({ detail: answer }) => {
  const hasMissed = answer.revision > editor.history.revision + 1;
  editor.history.keep(answer.revision);
  const isAlike = answer.n_included === annotation.included.length && !annotation.run.isUnknown;
  isBehind ||= hasMissed;
  if (autosave.isUnsaved || finder.isRunning || (isAlike && !isBehind)) return;
  await loadAnew();
});

// Before a file is made: it holds what the server has, and the page is to show the same.
async function loadNews() {
  const saved = await getAnnotation(imageId);
  if (saved.revision === editor.history.revision || autosave.isUnsaved || finder.isRunning) return;
  annotation.load(saved);
  editor.history.keep(saved.revision);
}

async function loadAnew() {
  try {
    const saved = await getAnnotation(imageId);
    // What is on its way, or has overtaken this answer, brings it here again.
    if (autosave.isUnsaved || saved.revision < editor.history.revision) return;
    isBehind = false;
    annotation.load(saved);
    editor.history.keep(saved.revision);
  } catch {
    // The image is gone, or the server is away for now: the page has said so, or will with the next change.
  }
}
picture.addEventListener("error", () =>
  status.notify("The image could not be shown. Reload the page; if that does not help, upload it again."),
);

// Right after an upload the droplets are what everybody wants to see first.
function isToBeSearched() {
  if (location.hash !== "#find") return false;
  history.replaceState(null, "", location.pathname + location.search);
  return preferences.get("findOnOpen") && annotation.byId.size === 0;
}

// Whoever edits or searches before the first answer is here must not see it wiped out by that.
async function getNewest() {
  let saved;
  do saved = await getAnnotation(imageId);
  while (saved.revision < editor.history.revision);
  return saved;
}

async function open() {
  try {
    const [saved] = await Promise.all([getNewest(), display.showPicture()]);
    annotation.load(saved);
    annotation.apply(autosave.unsaved);
    regions.show();
    editor.history.restore(saved.revision);
    editor.history.keep(saved.revision);
    const kept = isShared ? null : autosave.takeKept();
    if (kept) editor.put(kept);
    const found = annotation.droplets.length;
    const notes = saved.image.notes?.length ? `. Note on the file: ${saved.image.notes.join("; ")}` : "";
    status.say((found ? `${droplets(found)} restored` : "Ready") + notes);
    finder.setLoaded();
    analysis.load();
    if (isShared) return;
    await finder.resume();
    if (isToBeSearched()) await finder.run();
  } catch (error) {
    status.notify(error.message);
  }
  if (!isShared) workbench.findNeighbours();
}

open();
