// A patch is the wire form of every edit: {delete, restore, exclude, include, include_anyway, follow_filters:
// [ids], filters, calibration, channel, regions, search, rim_offset_px, assays: {name: settings or null}}.
// All its parts set something, so applying one twice changes nothing, and two merge into one. Pure.

const OPPOSITE = {
  delete: "restore",
  restore: "delete",
  exclude: "include",
  include: "exclude",
  include_anyway: "follow_filters",
  follow_filters: "include_anyway",
};

// The parts that say something of single droplets.
export const OF_DROPLETS = Object.keys(OPPOSITE);

export function merged(first, second) {
  const result = {};
  for (const [name, opposite] of Object.entries(OPPOSITE)) {
    const ids = new Set(first[name]);
    for (const id of second[opposite] ?? []) ids.delete(id);
    for (const id of second[name] ?? []) ids.add(id);
    if (ids.size) result[name] = [...ids];
  }
  for (const name of ["filters", "calibration", "channel", "regions", "search", "rim_offset_px"]) {
    if (name in second) result[name] = second[name];
    else if (name in first) result[name] = first[name];
  }
  if (first.assays || second.assays) result.assays = { ...first.assays, ...second.assays };
  return result;
}

export const isEmpty = (patch) => Object.keys(patch).length === 0;
