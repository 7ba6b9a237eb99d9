// Where the bar about droplets stands on the stage: at its top, or at its foot where it would cover them. Pure.

const MARGIN_PX = 14;
const AROUND_PX = 4; // the outline's own width, and a little air
const LOOKED_AT_MOST = 200; // of more droplets, some are under it wherever it stands

// bar and stage: {width, height} in px. rects: [x0, y0, x1, y1] on the stage. now: "top" or "foot".
// It stays where it is, unless the other place covers less.
export function placeOfBar(bar, stage, rects, now) {
  if (stage.height < bar.height + 2 * MARGIN_PX) return "top"; // from the foot it would reach over what is above
  if (rects.length > LOOKED_AT_MOST) return now;
  const left = (stage.width - bar.width) / 2;
  const covered = (y) => {
    const place = [left, y, left + bar.width, y + bar.height];
    return rects.reduce((sum, rect) => sum + sharedArea(place, rect), 0);
  };
  const areas = { top: covered(MARGIN_PX), foot: covered(stage.height - MARGIN_PX - bar.height) };
  const other = now === "top" ? "foot" : "top";
  return areas[now] > areas[other] ? other : now;
}

function sharedArea([ax0, ay0, ax1, ay1], [bx0, by0, bx1, by1]) {
  const width = Math.min(ax1, bx1 + AROUND_PX) - Math.max(ax0, bx0 - AROUND_PX);
  const height = Math.min(ay1, by1 + AROUND_PX) - Math.max(ay0, by0 - AROUND_PX);
  return Math.max(width, 0) * Math.max(height, 0);
}
