// What each key does on the annotate page. The order here is the order of the shortcut sheet.

const PAN_STEP = 60;
const CTRL = /Mac|iPhone|iPad/.test(navigator.platform) ? "⌘" : "Ctrl";
const DIRECTIONS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

// A group's rows are [keys, what they do, what runs, the keys as shown]; nothing runs for mouse and touch.
const group = (name, rows) => rows.map(([keys, does, run, shown]) => ({ group: name, keys, does, run, shown }));

// What the sheet names on a page where nothing can be changed.
const GUEST_KEYS = ["Escape", "N", "Tab", "Ctrl+A", "M", "Ctrl+E", "?"];
export const isForGuests = ({ group, keys }) => group === "Look" || GUEST_KEYS.includes(keys[0]);

export function commandsFor(workbench) {
  return [
    ...group("Find and outline", promptRows(workbench)),
    ...group("Correct", correctionRows(workbench)),
    ...group("Tools", toolRows(workbench)),
    ...group("Change outlines", shapeRows(workbench)),
    ...group("Look", viewRows(workbench)),
    ...group("Page", pageRows(workbench)),
  ];
}

function promptRows(workbench) {
  const { draft, finder } = workbench;
  return [
    [["G"], "Find droplets", () => finder.run()],
    [["Z"], "Look closer at what is on screen, for small droplets", () => finder.runCloser()],
    [[], "Point inside a droplet", null, ["click"]],
    [[], "Point that does not belong to it", null, ["right-click", "Shift+click", "long press"]],
    [[], "Box around a droplet", null, ["drag"]],
    [["Enter", "C"], "Keep the draft", () => workbench.commitDraft(), ["Enter", "C", "double-click"]],
    [["Escape"], "Cancel the draft or the selection", () => workbench.escape(), ["Esc"]],
    [["Backspace"], "Remove the last point", () => workbench.removeLast() || workbench.removeSelected()],
    [["T"], "Next candidate", () => draft.next()],
  ];
}

function correctionRows(workbench) {
  const by = ({ shiftKey }) => (shiftKey ? -1 : 1);
  const what = "Exclude or include the droplet under the pointer, or the selected ones";
  return [
    [["X"], what, () => workbench.toggleExcluded()],
    [["Delete"], "Delete the selected droplets", () => workbench.removeSelected(), ["Del"]],
    [["N", "Shift+N"], "Next, previous droplet", (event) => workbench.step(by(event))],
    [["Tab", "Shift+Tab"], "The same, once one is selected", (event) => workbench.tabStep(by(event))],
    [["Ctrl+Z"], "Undo", () => workbench.undo(), [`${CTRL}+Z`]],
    [["Ctrl+Shift+Z", "Ctrl+Y"], "Redo", () => workbench.redo(), [`${CTRL}+Shift+Z`, `${CTRL}+Y`]],
    [["Ctrl+A"], "Select all droplets", () => workbench.selectAll(), [`${CTRL}+A`]],
  ];
}

function toolRows(workbench) {
  const { toolbox } = workbench;
  const sign = ({ key }) => workbench.setSign(key.toUpperCase() === "Q" ? 1 : 0);
  return [
    [["P"], "Point", () => toolbox.enable("point")],
    [["B"], "Box", () => toolbox.enable("box")],
    [["V"], "Select", () => toolbox.enable("select")],
    [["L"], "Scale line", () => toolbox.enable("line")],
    [["R"], "Region to search, or zone to leave out", () => toolbox.enable("region")],
    [["Q", "E"], "A click adds to the droplet, removes from it", sign],
    [["K"], "One click keeps the droplet at once", () => workbench.toggleTurbo()],
  ];
}

function shapeRows({ toolbox, shaper, preferences }) {
  const brush = ({ key }) => {
    if (toolbox.name !== "brush") return false;
    const px = preferences.get("brushPx");
    const wanted = key === "," ? Math.min(Math.round(px * 0.8), px - 1) : Math.max(Math.round(px * 1.25), px + 1);
    preferences.set("brushPx", Math.min(Math.max(wanted, 1), 400));
  };
  return [
    [["W"], "Draw a droplet: corners, or freely", () => toolbox.enable("polygon")],
    [["U"], "Brush; with E or Shift, eraser", () => toolbox.enable("brush")],
    [[",", "."], "Brush narrower, wider", brush],
    [["S"], "Split by a line", () => toolbox.enable("split")],
    [["J"], "Merge the selected droplets", () => shaper.merge()],
    [[">"], "Grow the selected droplets, or all", () => shaper.grow(1)],
    [["<"], "Shrink them", () => shaper.grow(-1)],
    [["Shift+C"], "Fit a circle to each", () => shaper.fitCircle()],
    [["Shift+E"], "Fit an ellipse to each", () => shaper.fitEllipse()],
  ];
}

function viewRows({ stage, display }) {
  const pan = ({ key }) => {
    if (document.activeElement !== stage.root) return false;
    const [dx, dy] = DIRECTIONS[key];
    stage.pan(dx * PAN_STEP, dy * PAN_STEP);
  };
  const zoom = ({ key }) => stage.zoomBy(key === "-" ? 0.8 : 1.25);
  const fade = ({ key }) => display.changeOpacity(key === "[" ? -0.1 : 0.1);
  return [
    [[], "Zoom at the pointer", null, ["wheel", "pinch"]],
    [[], "Pan", null, ["Space+drag", "middle drag"]],
    [Object.keys(DIRECTIONS), "Pan, with the image in focus", pan, ["←", "→", "↑", "↓"]],
    [["+", "=", "-"], "Zoom in, out", zoom, ["+", "−"]],
    [["F"], "Fit the image", () => stage.fit()],
    [["1"], "Zoom to 100 %", () => stage.actualSize()],
    [[], "Hide the outlines while held", null, ["H"]],
    [["O"], "Outline, fill or hidden", () => display.nextStyle()],
    [["[", "]"], "Outlines fainter, stronger", fade],
  ];
}

function pageRows(workbench) {
  const neighbour = ({ key }) => workbench.openNeighbour(key.toUpperCase() === "A" ? -1 : 1);
  return [
    [["M"], "Results panel", () => workbench.togglePanel()],
    [["A", "D"], "Previous, next image", neighbour],
    [["I"], "All images", () => document.querySelector("#images-button:not([hidden])")?.click()],
    [["Ctrl+S"], "Save now (every change is saved anyway)", () => workbench.save(), [`${CTRL}+S`]],
    [["Ctrl+E"], "Download", () => workbench.openTab("tab-export"), [`${CTRL}+E`]],
    [["?", "F1"], "This sheet", () => workbench.openHelp()],
  ];
}
