// The head of the results panel: how many, how large, how even, in which unit, and which model said so.

import { byId, element, setText } from "./dom.js";
import { compact, count, fixed, meanText, modelName, seconds, significant, totalSeconds, calibrationText } from "./format.js";
import { countByReason, reasonCountText } from "./filters.js";

const DEFINITIONS = {
  Median: "Half of the included droplets are smaller than this.",
  Range: "Smallest and largest included diameter.",
  "CV ± SE": "Coefficient of variation, 100 × SD / mean, with its standard error CV / √(2n).",
  Out: "Droplets that are excluded by you or by a filter.",
};

const cvText = ({ cv, n }) => `${fixed(cv, 2)} ± ${fixed(cv / Math.sqrt(2 * n), 2)} %`;

export class Panel {
  constructor(annotation, editor) {
    this.annotation = annotation;
    byId("edge-exclude").hidden = !editor; // who looks at a shared page changes nothing
    byId("edge-exclude").addEventListener("click", () => {
      editor.setFilters({ ...annotation.filters, exclude_edge: true }, "filter by the edge");
      byId("stage").focus({ preventScroll: true }); // the button is gone
    });
    for (const kind of ["droplets", "filters", "calibration"]) annotation.addEventListener(kind, () => this.show());
    this.show();
  }

  show() {
    const summary = this.annotation.summary();
    this.showCount(summary);
    this.showHeadline(summary);
    this.showFigures(summary);
    this.showEdge();
    this.showScale();
    this.showProvenance();
  }

  showCount({ found, included }) {
    setText(byId("count-included"), count(included));
    setText(byId("count-note"), found ? `of ${count(found)} included` : "droplets");
    const note = byId("empty-note");
    const text = this.emptyText(found, included);
    note.hidden = !text;
    setText(note, text ?? "");
  }

  emptyText(found, included) {
    if (included || !found) return this.annotation.run.message ?? null;
    const reasons = [...countByReason(this.annotation.droplets)].map(
      ([reason, n]) => reasonCountText(count(n), reason),
    );
    return `0 droplets because: ${reasons.join(", ")}.`;
  }

  showHeadline({ diameter, unit }) {
    byId("headline").hidden = !diameter;
    if (!diameter) return;
    setText(byId("mean"), meanText(diameter.mean, diameter.sd));
    setText(byId("mean-unit"), unit);
    setText(byId("cv"), diameter.n > 1 ? `CV ${fixed(diameter.cv, 1)} %` : "one droplet");
  }

  showFigures({ diameter, volumes, found, included, unit }) {
    const list = byId("figures");
    list.hidden = !diameter;
    if (!diameter) return;
    const figures = [
      ["Median", `${significant(diameter.median)} ${unit}`],
      ["Range", `${significant(diameter.min, 3)} – ${significant(diameter.max, 3)} ${unit}`],
      ...(diameter.n > 1 ? [["CV ± SE", cvText(diameter)]] : []),
      volumes ? ["Volume", `${significant(volumes.mean)} pL`, this.volumeDefinition()] : ["Out", count(found - included)],
    ];
    list.replaceChildren(
      ...figures.map(([name, text, definition = DEFINITIONS[name]]) =>
        element("div", {}, element("dt", { text: name, title: definition }), element("dd", { text })),
      ),
    );
  }

  volumeDefinition() {
    const height = this.annotation.calibration?.chamber_height_um;
    if (!height) return "Mean of π/6 × d³ over the included droplets, as if each were a sphere.";
    return `Mean over the included droplets: spheres, cut off flat where wider than the chamber, ${compact(height)} µm high.`;
  }

  // What the border cuts comes out too small: the most common reason for a mean and a CV that mislead.
  showEdge() {
    // Who brought one back by hand knows.
    const cut = this.annotation.included.filter((d) => d.touches_edge && !d.included_by_user).length;
    byId("edge-note").hidden = cut === 0;
    setText(byId("edge-text"), `${count(cut)} ${cut === 1 ? "is" : "are"} cut by the image border and come${cut === 1 ? "s" : ""} out too small.`);
  }

  showScale() {
    const { calibration } = this.annotation;
    const chip = byId("scale-chip");
    chip.className = calibration ? "chip ok" : "chip alert";
    setText(chip, calibrationText(calibration));
  }

  showProvenance() {
    const { model, timings_s: timings } = this.annotation.run;
    const node = byId("provenance");
    node.hidden = !model;
    if (!model) return;
    const foundBy = new Set(this.annotation.droplets.filter((d) => d.source === "auto").map((d) => d.model));
    if (foundBy.size && !foundBy.has(model.name)) {
      // The last search was undone: these are an earlier one's.
      node.title = "";
      return setText(node, `Found by ${[...foundBy].map(modelName).join(" and ")}`);
    }
    const parts = Object.entries(timings);
    const text = `Found by ${modelName(model.name)} on ${String(model.device).toUpperCase()}`;
    const took = totalSeconds(timings);
    const time = took ? ` in ${seconds(took)}` : "";
    setText(node, `${text}${time} · weights ${String(model.sha256).slice(0, 8)}`);
    node.title = [`SHA-256 ${model.sha256}`, ...parts.map(([name, s]) => `${name} ${seconds(s)}`)].join("\n");
  }
}
