// What each key does on the annotate page. The order here is the order of the shortcut sheet.

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const PAN_STEP = 60;
const CTRL = MAC ? "⌘" : "Ctrl";

export function commandsFor(workbench) {
  const { stage, toolbox, editor, annotation, draft, finder, display } = workbench;
  const command = (group, keys, does, run, shown) => ({ group, keys, does, run, shown });
  const pan = ({ key }) => {
    if (document.activeElement !== stage.root) return false;
    const [dx, dy] = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key];
    stage.pan(dx * PAN_STEP, dy * PAN_STEP);
  };
  return [
    command("Find and outline", ["G"], "Find droplets", () => finder.run()),
    command("Find and outline", [], "Point inside a droplet", null, ["click"]),
    command("Find and outline", [], "Point that does not belong to it", null, ["right-click", "Shift+click", "long press"]),
    command("Find and outline", [], "Box around a droplet", null, ["drag"]),
    command("Find and outline", ["Enter", "C"], "Keep the draft", () => workbench.commitDraft(), ["Enter", "C", "double-click"]),
    command("Find and outline", ["Escape"], "Cancel the draft or the selection", () => workbench.escape(), ["Esc"]),
    command("Find and outline", ["Backspace"], "Remove the last point", () => draft.removeLast() || workbench.removeSelected()),
    command("Find and outline", ["T"], "Next candidate", () => draft.next()),

    command("Correct", ["X"], "Exclude or include the droplet under the pointer, or the selected ones", () => workbench.toggleExcluded()),
    command("Correct", ["Delete"], "Delete the selected droplets", () => workbench.removeSelected(), ["Del"]),
    command("Correct", ["N", "Shift+N"], "Next, previous droplet", ({ shiftKey }) => workbench.step(shiftKey ? -1 : 1)),
    command("Correct", ["Tab", "Shift+Tab"], "The same, once one is selected", ({ shiftKey }) => workbench.tabStep(shiftKey ? -1 : 1)),
    command("Correct", ["Ctrl+Z"], "Undo", () => workbench.undo(), [`${CTRL}+Z`]),
    command("Correct", ["Ctrl+Shift+Z", "Ctrl+Y"], "Redo", () => workbench.redo(), [`${CTRL}+Shift+Z`, `${CTRL}+Y`]),
    command("Correct", ["Ctrl+A"], "Select all droplets", () => annotation.select(annotation.droplets.map(({ id }) => id)), [`${CTRL}+A`]),

    command("Tools", ["P"], "Point", () => toolbox.enable("point")),
    command("Tools", ["B"], "Box", () => toolbox.enable("box")),
    command("Tools", ["V"], "Select", () => toolbox.enable("select")),
    command("Tools", ["L"], "Scale line", () => toolbox.enable("line")),
    command("Tools", ["Q", "E"], "A click adds to the droplet, removes from it", ({ key }) => workbench.setSign(key.toUpperCase() === "Q" ? 1 : 0)),
    command("Tools", ["K"], "One click keeps the droplet at once", () => workbench.toggleTurbo()),

    command("Look", [], "Zoom at the pointer", null, ["wheel", "pinch"]),
    command("Look", [], "Pan", null, ["Space+drag", "middle drag"]),
    command("Look", ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "Pan, with the image in focus", pan, ["←", "→", "↑", "↓"]),
    command("Look", ["+", "=", "-"], "Zoom in, out", ({ key }) => stage.zoomBy(key === "-" ? 0.8 : 1.25), ["+", "−"]),
    command("Look", ["F"], "Fit the image", () => stage.fit()),
    command("Look", ["1"], "Zoom to 100 %", () => stage.actualSize()),
    command("Look", [], "Hide the outlines while held", null, ["H"]),
    command("Look", ["O"], "Outline, fill or hidden", () => display.nextStyle()),
    command("Look", ["[", "]"], "Outlines fainter, stronger", ({ key }) => display.changeOpacity(key === "[" ? -0.1 : 0.1)),

    command("Page", ["M"], "Results panel", () => workbench.togglePanel()),
    command("Page", ["A", "D"], "Previous, next image", ({ key }) => workbench.openNeighbour(key.toUpperCase() === "A" ? -1 : 1)),
    command("Page", ["Ctrl+S"], "Save now (every change is saved anyway)", () => workbench.save(), [`${CTRL}+S`]),
    command("Page", ["Ctrl+E"], "Download", () => workbench.openTab("tab-export"), [`${CTRL}+E`]),
    command("Page", ["?", "F1"], "This sheet", () => workbench.openHelp()),
  ];
}
