// Populations: groups of size by a mixture of log-normal diameters, and high and low intensity.

import { AssayChart } from "./assaychart.js";
import { element, setText } from "./dom.js";
import { count, droplets, fixed, significant } from "./format.js";
import { histogram } from "./statistics.js";
import { keepTyping, offer, showNotes } from "./assayview.js";

const CURVE_POINTS = 160;
const COLORS = ["--plot-positive", "--plot-second", "--plot-third", "--plot-fourth"];

// The expected number of droplets per bin of a width, over diameters x.
function expectedCounts({ share, median, log_sd: sd }, n, width, x) {
  return x.map((d) => {
    const z = Math.log(d / median) / sd;
    return (n * width * share * Math.exp(-0.5 * z * z)) / (d * sd * Math.sqrt(2 * Math.PI));
  });
}

// A histogram and curves on one x axis for uPlot, which wants all series at the same places.
function mergedSeries({ edges, counts }, curves) {
  const width = edges[1] - edges[0];
  const low = Math.max(edges[0] - width, width / 1000),
    high = edges.at(-1) + width;
  const fine = Array.from({ length: CURVE_POINTS }, (_, i) => low + ((high - low) * i) / (CURVE_POINTS - 1));
  const x = [...new Set([...fine, ...edges])].sort((a, b) => a - b);
  const bars = new Map(edges.map((edge, index) => [edge, counts[index] ?? 0]));
  return { x, bars: x.map((at) => bars.get(at) ?? undefined), curves: curves.map((curve) => curve(x, width)) };
}

function aboutText({ suggested, n_outliers: outliers }) {
  const groups =
    suggested > 1 ? `The diameters support ${suggested} groups.` : "The diameters support one group: no satellites stand apart.";
  return outliers ? `${groups} ${droplets(outliers)} of many sizes lie outside, as outliers.` : groups;
}

export class SizeGroups {
  constructor(root, analysis) {
    this.analysis = analysis;
    this.field = (name) => root.querySelector(`[data-field="${name}"]`);
    this.chart = new AssayChart(this.field("size-plot"), { height: 160 });
    this.field("n_groups").addEventListener("change", () => this.send());
    this.field("split").addEventListener("click", () => this.send());
    this.field("size-remove").addEventListener("click", () => analysis.remove("groups"));
  }

  send() {
    const { value } = this.field("n_groups");
    return this.analysis.set("groups", { n_groups: value === "" ? null : Number(value) });
  }

  show() {
    const assay = this.analysis.assays.groups ?? null;
    const isDone = Boolean(assay?.groups);
    this.field("size-result").hidden = !isDone;
    this.field("size-remove").hidden = !assay;
    this.field("split").hidden = isDone;
    showNotes(this.field("size-notes"), assay?.error ? [assay.error] : []);
    if (!isDone) return;
    this.field("n_groups").value = assay.settings.n_groups ?? "";
    const unit = assay.unit === "um" ? "µm" : "px";
    setText(this.field("size-about"), aboutText(assay));
    this.showTable(assay.groups, unit);
    this.draw(assay, unit);
  }

  showTable(groups, unit) {
    const cells = ({ name, n, share_by_number_percent: number, share_by_volume_percent: volume, diameter }) => [
      name.replace("_", " "),
      `${count(n)} (${significant(number, 2)} %)`,
      `${significant(volume, 2)} %`,
      diameter.sd === null ? significant(diameter.mean) : `${significant(diameter.mean)} ± ${significant(diameter.sd, 3)}`,
      diameter.cv_percent === null ? "–" : `${fixed(diameter.cv_percent, 1)} %`,
    ];
    const head = ["Group", "n", "Volume", `Diam. (${unit})`, "CV"];
    this.field("size-table").replaceChildren(
      element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col", text })))),
      element(
        "tbody",
        {},
        ...groups.map((group) => element("tr", {}, ...cells(group).map((text) => element("td", { text })))),
      ),
    );
  }

  draw({ components }, unit) {
    const { included, length } = this.analysis.annotation;
    if (included.length < 2) return;
    const diameters = included.map(({ diameter_px: d }) => d * length.factor);
    const bins = histogram(diameters, diameters.map(() => true));
    const curves = components.map((each) => (x, width) => expectedCounts(each, diameters.length, width, x));
    const { x, bars, curves: values } = mergedSeries({ edges: bins.edges, counts: bins.all }, curves);
    this.chart.show({
      x,
      series: [
        { kind: "bars", color: "--plot-included", values: bars },
        ...values.map((curve, index) => ({ kind: "curve", color: COLORS[index], values: curve })),
      ],
      barWidth: bins.edges[1] - bins.edges[0],
      yFromZero: true,
      xLabel: `diameter (${unit})`,
      yLabel: "droplets",
      label: `Histogram of the diameters with ${components.length} fitted groups`,
      line: null,
    });
  }
}

export class IntensityClasses {
  constructor(root, analysis) {
    this.analysis = analysis;
    this.field = (name) => root.querySelector(`[data-field="${name}"]`);
    this.chart = new AssayChart(this.field("intensity-plot"), { height: 150 });
    keepTyping(root);
    this.field("column").addEventListener("change", () => this.send(null));
    this.field("intensity-split").addEventListener("click", () => this.send(null));
    this.field("intensity-threshold").addEventListener("change", ({ target }) =>
      this.send(target.value.trim() === "" ? null : Number(target.value)),
    );
    this.field("intensity-propose").addEventListener("click", () => this.send(null));
    this.field("intensity-remove").addEventListener("click", () => analysis.remove("intensity"));
  }

  open() {
    const names = this.analysis.annotation.image.channel_names;
    const channels = names.length > 1 ? names.map((name, index) => [`mean_intensity_c${index}`, `Mean of ${name}`]) : [];
    const columns = [["mean_intensity", "Mean"], ["median_intensity", "Median"], ["max_intensity", "Maximum"], ...channels];
    const select = this.field("column");
    const { value } = select;
    select.replaceChildren(...columns.map(([name, text]) => element("option", { value: name, text })));
    select.value = this.analysis.assays.intensity?.settings?.column ?? (value || "mean_intensity");
  }

  send(threshold) {
    return this.analysis.set("intensity", { column: this.field("column").value || "mean_intensity", threshold });
  }

  show() {
    const assay = this.analysis.assays.intensity ?? null;
    const isDone = Boolean(assay?.high);
    this.field("intensity-result").hidden = !isDone;
    this.field("intensity-remove").hidden = !assay;
    this.field("intensity-split").hidden = isDone;
    showNotes(this.field("intensity-notes"), assay?.error ? [assay.error] : []);
    if (!isDone || assay.threshold === null) return;
    this.field("column").value = assay.column;
    offer(this.field("intensity-threshold"), significant(assay.threshold, 5));
    this.field("intensity-propose").disabled = assay.settings.threshold === null;
    this.values = this.analysis.annotation.included.map((droplet) => droplet[assay.column]).filter(Number.isFinite);
    this.tell(assay.threshold);
    this.draw(assay);
  }

  tell(threshold) {
    const high = this.values.filter((value) => value >= threshold).length;
    const share = (n) => (this.values.length ? ` (${fixed((100 * n) / this.values.length, 1)} %)` : "");
    const low = this.values.length - high;
    setText(this.field("intensity-counts"), `${count(high)} high${share(high)}, ${count(low)} low${share(low)}`);
  }

  draw({ threshold, column }) {
    if (this.values.length < 2) return;
    const bins = histogram(this.values, this.values.map(() => true));
    this.chart.show({
      x: bins.edges,
      series: [{ kind: "bars", color: "--plot-included", values: [...bins.all, 0] }],
      yFromZero: true,
      xLabel: "raw intensity",
      yLabel: "droplets",
      label: `Histogram of ${column.replaceAll("_", " ")} with a threshold at ${significant(threshold, 4)}`,
      line: {
        axis: "x",
        value: threshold,
        band: null,
        label: "Threshold between low and high",
        isFixed: this.analysis.isReadOnly,
        onMove: (value) => {
          this.tell(value);
          this.field("intensity-threshold").value = significant(value, 5);
        },
        onEnd: (value) => this.send(value),
      },
    });
  }
}
