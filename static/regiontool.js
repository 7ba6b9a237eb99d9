// The tool that draws where Find looks: a drag makes a rectangle, taps make a polygon.

import { SketchTool } from "./sketch.js";
import { normalizedBox } from "./tools.js";

export class RegionTool extends SketchTool {
  dragMove(from, to) {
    this.cancel();
    this.workbench.showRubber("select", normalizedBox(from, to, this.workbench.imageSize));
  }

  dragEnd(from, to) {
    this.workbench.showRubber(null);
    const [x0, y0, x1, y1] = normalizedBox(from, to, this.workbench.imageSize);
    if (x1 - x0 >= 2 && y1 - y0 >= 2) this.done([x0, y0, x1, y0, x1, y1, x0, y1]);
  }

  dragCancel() {
    this.workbench.showRubber(null);
  }

  done(contour) {
    const { regions } = this.workbench;
    regions.add(contour);
    this.workbench.say(
      regions.kind === "search" ? "Find now looks only here: press G" : "Find now leaves this out: press G",
    );
  }
}
