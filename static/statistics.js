// Summary statistics of the included droplets, as measurement/droplets.py defines them (SD with n − 1). Pure.

export function describe(values) {
  const n = values.length;
  if (n === 0) return null;
  const sorted = Float64Array.from(values).sort();
  const mean = sorted.reduce((sum, value) => sum + value, 0) / n;
  const squares = sorted.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const sd = n > 1 ? Math.sqrt(squares / (n - 1)) : NaN;
  return { n, mean, sd, cv: (100 * sd) / mean, median: quantile(sorted, 0.5), min: sorted[0], max: sorted[n - 1] };
}

// Linear interpolation between order statistics, as numpy's default.
function quantile(sorted, q) {
  const position = (sorted.length - 1) * q;
  const low = Math.floor(position);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (position - low);
}

// Of a sphere, or of one that the plates of a lower chamber cut off flat; see docs/measurements.md.
export function volumePl(diameterUm, chamberHeightUm = null) {
  const beyond = chamberHeightUm === null ? 0 : Math.max(diameterUm - chamberHeightUm, 0);
  return ((Math.PI / 12) * (2 * diameterUm ** 3 - beyond ** 2 * (2 * diameterUm + chamberHeightUm))) / 1000;
}

// Equal bins over all values: {edges: [k + 1], all: [k], included: [k]}. Width by Freedman and Diaconis, 8 to 48 bins.
export function histogram(values, isIncluded) {
  const sorted = Float64Array.from(values).sort();
  const n = sorted.length;
  let low = sorted[0],
    high = sorted[n - 1];
  if (high - low < 1e-9 * Math.max(1, high)) [low, high] = [low * 0.95, high * 1.05 + 1e-6];
  const spread = quantile(sorted, 0.75) - quantile(sorted, 0.25);
  const ideal = spread > 0 ? (high - low) / ((2 * spread) / Math.cbrt(n)) : 12;
  const bins = Math.round(Math.min(Math.max(ideal, 8), 48));
  const width = (high - low) / bins;
  const all = new Array(bins).fill(0);
  const included = new Array(bins).fill(0);
  values.forEach((value, index) => {
    const bin = Math.min(Math.floor((value - low) / width), bins - 1);
    all[bin] += 1;
    if (isIncluded[index]) included[bin] += 1;
  });
  return { edges: Array.from({ length: bins + 1 }, (_, i) => low + i * width), all, included };
}
