// The droplets of several images as one sample, from each image's n, mean and SD. Exact, not a mean of means.

// In µm where every image that has droplets has a scale, and in px where none has: {n, mean, cvPercent, unit}.
// With and without scale together have no common mean.
export function pooled(results) {
  const counting = results.filter(({ n_included: n }) => n > 0);
  const n = counting.reduce((sum, { n_included }) => sum + n_included, 0);
  const scaled = counting.filter((result) => result.mean_diameter_um !== null).length;
  if (n === 0 || (scaled > 0 && scaled < counting.length)) return { n, mean: null, cvPercent: null, unit: null };
  const unit = scaled ? "um" : "px";
  const meanOf = (result) => result[`mean_diameter_${unit}`];
  const mean = counting.reduce((sum, result) => sum + result.n_included * meanOf(result), 0) / n;
  const squares = counting.reduce((sum, result) => {
    const sd = result[`sd_diameter_${unit}`] ?? 0;
    return sum + (result.n_included - 1) * sd ** 2 + result.n_included * (meanOf(result) - mean) ** 2;
  }, 0);
  const cvPercent = n > 1 ? (100 * Math.sqrt(squares / (n - 1))) / mean : null;
  return { n, mean, cvPercent, unit: unit === "um" ? "µm" : "px" };
}
