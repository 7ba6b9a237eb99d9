// The overlay colours (Okabe and Ito), each with its own dash, so that no state is told by colour alone.

export const STYLES = {
  included: { color: "#56b4e9", dash: [] },
  // Counts because the user said so, although a filter leaves it out.
  kept: { color: "#56b4e9", dash: [9, 3, 2, 3] },
  // What assays say of included droplets: positive, loaded or bright; of another size than most.
  positive: { color: "#e69f00", dash: [] },
  other: { color: "#c4a5ff", dash: [8, 2] },
  // Not read by the assay that is shown: outside the second picture.
  unread: { color: "#b4bac4", dash: [2, 3] },
  filtered: { color: "#d55e00", dash: [6, 4] },
  user: { color: "#f08a4b", dash: [1.5, 4] },
};

export const SELECTED = "#f0e442";
export const HOVERED = "#ffffff";
export const DRAFT = "#cc79a7";
export const POSITIVE = "#009e73";
export const NEGATIVE = "#d55e00";
export const SHADOW = "rgba(0, 0, 0, 0.55)";

export function styleOf({ included, mark, included_although: although, exclusion_reason: reason }) {
  if (included) return mark ?? (although ? "kept" : "included");
  return reason === "user" ? "user" : "filtered";
}
