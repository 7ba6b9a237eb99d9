// Paints the regions: what Find does not search is dimmed, what it leaves out is hatched.

import { SELECTED } from "./palette.js";

const DIM = "rgba(0, 0, 0, 0.42)";
const HATCH_PX = 7;

export function paintRegions(context, stage, regions) {
  const searched = pathOf(regions, "search", stage.view);
  const leftOut = pathOf(regions, "leave-out", stage.view);
  if (searched) {
    paintDim(context, stage, searched);
    strokeEdge(context, searched, []);
  }
  if (leftOut) {
    paintHatch(context, stage, leftOut);
    strokeEdge(context, leftOut, [2, 4]);
  }
}

function pathOf(regions, kind, { scale, x, y }) {
  const wanted = regions.filter((region) => region.kind === kind);
  if (!wanted.length) return null;
  const path = new Path2D();
  for (const { contour } of wanted) {
    for (let i = 0; i < contour.length; i += 2) {
      const corner = [contour[i] * scale + x, contour[i + 1] * scale + y];
      if (i) path.lineTo(...corner);
      else path.moveTo(...corner);
    }
    path.closePath();
  }
  return path;
}

function paintDim(context, { view, imageWidth, imageHeight }, hole) {
  const a = view.toScreen(0, 0),
    b = view.toScreen(imageWidth, imageHeight);
  context.fillStyle = DIM;
  context.fillRect(a.x, a.y, b.x - a.x, b.y - a.y);
  context.globalCompositeOperation = "destination-out";
  context.fillStyle = "#000";
  context.fill(hole);
  context.globalCompositeOperation = "source-over";
}

function paintHatch(context, { width, height }, path) {
  context.save();
  context.clip(path);
  context.fillStyle = DIM;
  context.fillRect(0, 0, width, height);
  context.beginPath();
  for (let x = -height; x < width; x += HATCH_PX) {
    context.moveTo(x, height);
    context.lineTo(x + height, 0);
  }
  context.strokeStyle = "rgba(255, 255, 255, 0.45)";
  context.lineWidth = 1;
  context.stroke();
  context.restore();
}

function strokeEdge(context, path, dash) {
  context.setLineDash(dash);
  context.strokeStyle = SELECTED;
  context.lineWidth = 1.5;
  context.stroke(path);
  context.setLineDash([]);
}
