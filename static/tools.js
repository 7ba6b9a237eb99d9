// The tools. Each says what a tap, a double tap and a drag mean; Toolbox turns one on at a time.

export function normalizedBox(a, b, { width, height }) {
  const clamp = (value, most) => Math.min(Math.max(value, 0), most);
  return [
    clamp(Math.min(a.x, b.x), width),
    clamp(Math.min(a.y, b.y), height),
    clamp(Math.max(a.x, b.x), width),
    clamp(Math.max(a.y, b.y), height),
  ];
}

// Shared by point and box: a drag draws a box prompt.
class PromptTool {
  constructor(workbench) {
    this.workbench = workbench;
  }

  tap({ x, y, isNegative }) {
    const { workbench } = this;
    if (!workbench.isInside(x, y)) return;
    workbench.addPoint(x, y, isNegative ? false : workbench.sign === 1);
  }

  doubleTap() {
    this.workbench.commitDraft();
  }

  dragMove(from, to) {
    this.workbench.showRubber("prompt", normalizedBox(from, to, this.workbench.imageSize));
  }

  dragEnd(from, to) {
    this.workbench.showRubber(null);
    const box = normalizedBox(from, to, this.workbench.imageSize);
    if (box[2] - box[0] >= 2 && box[3] - box[1] >= 2) this.workbench.setBox(box);
  }

  dragCancel() {
    this.workbench.showRubber(null);
  }

  disable() {
    this.workbench.cancelDraft();
  }
}

class PointTool extends PromptTool {
  dragsWithTouch = false;
}

class BoxTool extends PromptTool {
  dragsWithTouch = true;
}

class SelectTool {
  constructor(workbench) {
    this.workbench = workbench;
    this.dragsWithTouch = false;
  }

  // A click selects, a second one on the same droplet excludes or includes it; Ctrl or Shift adds to the selection.
  tap({ x, y, isAdding, isNegative }) {
    const { annotation, editor } = this.workbench;
    const hit = annotation.grid.at(x, y);
    if (!hit) return annotation.select([]);
    if (isAdding || isNegative) return this.toggleSelected(hit.id);
    if (annotation.selection.size === 1 && annotation.selection.has(hit.id)) return editor.toggleExcluded([hit.id]);
    annotation.select([hit.id]);
  }

  toggleSelected(id) {
    const { annotation } = this.workbench;
    const ids = new Set(annotation.selection);
    if (!ids.delete(id)) ids.add(id);
    annotation.select(ids);
  }

  dragMove(from, to) {
    this.workbench.showRubber("select", normalizedBox(from, to, this.workbench.imageSize));
  }

  dragEnd(from, to, event) {
    const { annotation } = this.workbench;
    this.workbench.showRubber(null);
    const [x0, y0, x1, y1] = normalizedBox(from, to, this.workbench.imageSize);
    const within = annotation.droplets
      .filter(({ center_x_px: x, center_y_px: y }) => x >= x0 && x <= x1 && y >= y0 && y <= y1)
      .map(({ id }) => id);
    annotation.select(event.shiftKey || event.ctrlKey ? [...annotation.selection, ...within] : within);
  }

  dragCancel() {
    this.workbench.showRubber(null);
  }
}

class LineTool {
  constructor(workbench) {
    this.workbench = workbench;
    this.dragsWithTouch = true;
  }

  tap() {
    this.workbench.say("Drag along something whose length you know, such as the scale bar");
  }

  // Shift keeps the line level or upright.
  straightened(from, to, event) {
    if (!event.shiftKey) return to;
    const isLevel = Math.abs(to.x - from.x) > Math.abs(to.y - from.y);
    return isLevel ? { x: to.x, y: from.y } : { x: from.x, y: to.y };
  }

  dragMove(from, to, event) {
    this.workbench.showLine([from, this.straightened(from, to, event)]);
  }

  dragEnd(from, to, event) {
    const line = [from, this.straightened(from, to, event)];
    this.workbench.showLine(line);
    this.workbench.askLineLength(line);
  }

  dragCancel() {
    this.workbench.showLine(null);
  }

  disable() {
    this.workbench.showLine(null);
  }
}

export class Toolbox extends EventTarget {
  // more: further tools by name.
  constructor(workbench, buttons, more = {}) {
    super();
    this.tools = {
      point: new PointTool(workbench),
      box: new BoxTool(workbench),
      select: new SelectTool(workbench),
      line: new LineTool(workbench),
      ...more,
    };
    this.root = workbench.stage.root;
    this.buttons = buttons;
    this.name = null;
    for (const button of buttons) button.addEventListener("click", () => this.enable(button.dataset.tool));
    this.enable("point");
  }

  get active() {
    return this.tools[this.name];
  }

  // Leaves one tool only, for a page on which nothing may be changed.
  lock(name) {
    this.enable(name);
    this.isLocked = true;
  }

  enable(name) {
    if (this.name === name || this.isLocked) return;
    const isSameDraft = ["point", "box"].includes(name) && ["point", "box"].includes(this.name);
    if (!isSameDraft) this.active?.disable?.();
    this.name = name;
    this.root.dataset.tool = name;
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    this.dispatchEvent(new Event("change"));
  }
}
