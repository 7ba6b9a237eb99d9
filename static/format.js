// Numbers as text. A value that is not there reads as an en dash, never as 0.

export const MISSING = "–";

const plain = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const count = (value) => plain.format(value);

export function droplets(n) {
  return `${count(n)} droplet${n === 1 ? "" : "s"}`;
}

export function fixed(value, digits) {
  return Number.isFinite(value) ? value.toFixed(digits) : MISSING;
}

// Mean ± SD; one droplet has no spread.
export function meanText(mean, sd) {
  const digits = mean >= 1000 ? 0 : mean >= 100 ? 1 : 2;
  return fixed(mean, digits) + (Number.isFinite(sd) ? ` ± ${fixed(sd, digits)}` : "");
}

// About `digits` significant digits without exponents: 0.0123, 1.23, 12.3, 123.
export function significant(value, digits = 4) {
  if (!Number.isFinite(value)) return MISSING;
  if (value === 0) return "0";
  const places = digits - 1 - Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.min(Math.max(places, 0), 8));
}

// A number without trailing zeros: 0.65, 1.3125.
export const compact = (value) => String(Number(value.toPrecision(6)));

export const seconds = (value) => (value < 10 ? `${value.toFixed(2)} s` : `${value.toFixed(1)} s`);

const SOURCES = {
  ome: "OME metadata",
  imagej: "ImageJ metadata",
  tiff: "TIFF resolution",
  typed: "typed",
  line: "from a line",
  objective: "saved objective",
};

export function calibrationText(calibration) {
  if (!calibration) return "pixels only";
  const scale = `${compact(calibration.um_per_px)} µm/px (${SOURCES[calibration.source] ?? calibration.source})`;
  const height = calibration.chamber_height_um;
  return height ? `${scale}, chamber ${compact(height)} µm` : scale;
}

// The computing time of an answer: its parts without the wait in the queue, or the total where that is given.
export function totalSeconds(timings) {
  if (timings.total) return timings.total;
  return Object.entries(timings).reduce((sum, [name, value]) => (name === "queue" ? sum : sum + value), 0);
}

const MODELS = { "droplet-net": "DropletNet", "mobile-sam": "MobileSAM", "mobile-sam-droplets": "MobileSAM for droplets", auto: "automatic choice" };

export const modelName = (name) => MODELS[name] ?? name;

export function durationText(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}
