// All statistics of the image with their 95 % intervals, doubts about its quality, and the paragraph for the paper.

import { element, setText, showError } from "./dom.js";
import { compact, count, fixed, significant } from "./format.js";
import { reasonCountText } from "./filters.js";
import { showNotes } from "./assayview.js";

const SIZES = [
  ["mean", "Mean"],
  ["sd", "SD (n − 1)"],
  ["cv_percent", "CV (%)"],
  ["cv_se_percent", "Standard error of the CV (%)"],
  ["pdi", "PDI, (SD/mean)²"],
  ["dn10", "Dn10, by number"],
  ["dn50", "Dn50, by number"],
  ["dn90", "Dn90, by number"],
  ["span", "Span, (Dn90 − Dn10)/Dn50"],
  ["dv10", "Dv10, by volume"],
  ["dv50", "Dv50, by volume"],
  ["dv90", "Dv90, by volume"],
  ["d_32", "D[3,2], Sauter"],
  ["d_43", "D[4,3], De Brouckere"],
  ["d_30", "D[3,0], of mean volume"],
  ["min", "Smallest"],
  ["max", "Largest"],
];

const volumesText = ({ chamber_height_um: heightUm, n_flattened: n }) =>
  n ? `volumes: flattened between plates ${compact(heightUm)} µm apart` : "volumes: spheres";

export class StatisticsPanel {
  constructor(root, analysis) {
    this.root = root;
    this.analysis = analysis;
    this.report = null;
    this.request = 0;
    this.field = (name) => root.querySelector(`[data-field="${name}"]`);
    this.field("weighted").addEventListener("change", () => this.render());
    this.field("copy").addEventListener("click", () => this.copy());
    analysis.addEventListener("stale", () => this.root.setAttribute("aria-busy", "true"));
  }

  async open() {
    if (this.root.hidden) return;
    this.root.setAttribute("aria-busy", "true");
    const request = ++this.request;
    try {
      const report = await this.analysis.report();
      if (request !== this.request) return; // a later answer knows more
      this.report = report;
      showError(this.field("problem"), null);
      this.render();
    } catch (error) {
      if (request !== this.request) return;
      showError(this.field("problem"), error.message);
    }
    this.root.setAttribute("aria-busy", "false");
  }

  render() {
    if (!this.report) return;
    const isWeighted = this.field("weighted").checked;
    const summary = isWeighted ? this.report.edge_weighted_summary : this.report.summary;
    const isUm = summary.diameter_um !== null;
    const sizes = isUm ? summary.diameter_um : summary.diameter_px;
    const intervals = isWeighted ? {} : (summary.intervals_95?.[isUm ? "diameter_um" : "diameter_px"] ?? {});
    const rows = SIZES.filter(([name]) => sizes[name] !== null).map(([name, title]) => [title, sizes[name], intervals[name]]);
    const { volume_pl: volume } = summary;
    if (volume?.mean) rows.push(["Mean volume (pL)", volume.mean, summary.intervals_95?.mean_volume_pl]);
    if (volume?.total) rows.push(["Total volume (pL)", volume.total, null]);
    this.field("unit").textContent = isUm ? "µm" : "px";
    this.field("table").replaceChildren(...rows.map((row) => this.row(row)));
    this.showCounts(summary);
    const { quality } = this.report;
    showNotes(this.field("notes"), [...quality.flags, ...summary.notes]);
    setText(this.field("methods"), this.report.methods);
  }

  row([title, value, interval]) {
    const between = interval ? `${significant(interval[0])} – ${significant(interval[1])}` : "";
    const head = element("th", { scope: "row", text: title });
    return element("tr", {}, head, element("td", { text: significant(value) }), element("td", { text: between }));
  }

  showCounts(summary) {
    const { n_included: included, n_found: found, recommended_n: wanted } = summary;
    const { coverage_percent: coverage, saturated_percent: saturated, rim_width_share: rim } = this.report.quality;
    const told = (counts) => Object.entries(counts).map(([reason, n]) => reasonCountText(count(n), reason));
    const [out, kept] = [told(summary.excluded_by_reason), told(summary.included_although_by_reason)];
    const parts = [
      `${count(included)} of ${count(found)} droplets${out.length ? ` (${out.join(", ")})` : ""}`,
      kept.length ? `included by you although a filter leaves them out: ${kept.join(", ")}` : null,
      wanted ? `${count(wanted)} recommended` : null,
      `${fixed(coverage, 1)} % of the image covered`,
      saturated === null ? null : `${fixed(saturated, 2)} % saturated`,
      rim === null ? null : `rims ${fixed(100 * rim, 0)} % of a diameter wide`,
      summary.volume_pl ? volumesText(summary) : null,
    ];
    setText(this.field("counts"), `${parts.filter(Boolean).join(" · ")}.`);
  }

  async copy() {
    const text = this.field("methods").textContent;
    try {
      await navigator.clipboard.writeText(text);
      setText(this.field("copy"), "Copied");
    } catch {
      // No clipboard without HTTPS: select it, so that the keyboard can copy.
      getSelection().selectAllChildren(this.field("methods"));
      setText(this.field("copy"), "Selected: press Ctrl+C");
    }
    setTimeout(() => setText(this.field("copy"), "Copy"), 2500);
  }
}
