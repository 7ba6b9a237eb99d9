// Filters, evaluated in the browser by the same rule and order as sam_droplet/measurement, so that counts move
// with the slider. Pure. The first rule that a droplet breaks is its reason; the user's word stands above the rules.

export const COLUMNS = [
  "center_x_px",
  "center_y_px",
  "area_px",
  "diameter_px",
  "circularity",
  "feret_max_px",
  "feret_min_px",
  "aspect_ratio",
  "eccentricity",
  "solidity",
  "touches_edge",
  "edge_distance_px",
  "mean_intensity",
  "sd_intensity",
  "median_intensity",
  "min_intensity",
  "max_intensity",
  "background_intensity",
  "score",
];

export const NO_FILTERS = Object.freeze({ ranges: Object.freeze({}), exclude_edge: false });

// What the filters say of a droplet; null where they let it count.
export function reasonFor(droplet, filters, columns = orderedColumns(filters)) {
  if (filters.exclude_edge && droplet.touches_edge) return "touches_edge";
  for (const column of columns) {
    const value = droplet[column];
    if (value === null || value === undefined) continue; // without the number it passes
    const [low, high] = filters.ranges[column];
    if (low !== null && value < low) return `${column}_below`;
    if (high !== null && value > high) return `${column}_above`;
  }
  return null;
}

// The filtered columns in table order; columns that only some images have come last.
function orderedColumns(filters) {
  const rank = (column) => {
    const index = COLUMNS.indexOf(column);
    return index < 0 ? COLUMNS.length : index;
  };
  return Object.keys(filters.ranges).sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
}

// Sets included, exclusion_reason and included_although on each droplet in place.
export function evaluate(droplets, filters) {
  const columns = orderedColumns(filters);
  for (const droplet of droplets) {
    const filtered = reasonFor(droplet, filters, columns);
    const isKept = droplet.included_by_user && !droplet.excluded_by_user;
    droplet.exclusion_reason = droplet.excluded_by_user ? "user" : isKept ? null : filtered;
    droplet.included = droplet.exclusion_reason === null;
    droplet.included_although = isKept ? filtered : null;
  }
}

// field: exclusion_reason for what is out, included_although for what counts against the filters.
export function countByReason(droplets, field = "exclusion_reason") {
  const counts = new Map();
  for (const { [field]: reason } of droplets) if (reason) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  return counts;
}

// A copy of the filters with one range changed; a range without limits is dropped.
export function withRange(filters, column, low, high) {
  const ranges = { ...filters.ranges, [column]: [low, high] };
  if (low === null && high === null) delete ranges[column];
  return { ...filters, ranges };
}

export const activeCount = (filters) => Object.keys(filters.ranges).length + (filters.exclude_edge ? 1 : 0);

const NAMES = {
  diameter_px: "diameter",
  area_px: "area",
  circularity: "circularity",
  mean_intensity: "mean intensity",
  score: "score",
  edge_distance_px: "distance to the edge",
};

// How many droplets are out for a reason, in words that fit any number.
export function reasonCountText(n, reason) {
  const text = reasonText(reason);
  if (reason === "user") return `${n} ${text}`;
  return reason === "touches_edge" ? `${n} touching the edge` : `${n} with ${text}`;
}

// What becomes of a droplet, and why.
export function stateText({ exclusion_reason: reason, included_although: although }) {
  return although ? `included by you although: ${reasonText(although)}` : reasonText(reason);
}

export function reasonText(reason) {
  if (!reason) return "included";
  if (reason === "user") return "excluded by you";
  if (reason === "touches_edge") return "touches the edge";
  const below = reason.endsWith("_below");
  const column = reason.replace(/_(below|above)$/, "");
  return `${NAMES[column] ?? column.replaceAll("_", " ")} ${below ? "below the minimum" : "above the maximum"}`;
}
