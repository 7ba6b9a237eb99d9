// Loading: beads or cells per droplet from a second picture, against Poisson's law.

import { AssayChart } from "./assaychart.js";
import { setText, whileDisabled } from "./dom.js";
import { count, fixed, significant } from "./format.js";
import { SecondPicture } from "./secondpicture.js";
import { keepTyping, offer, percent, readFrom, showFigures, showNotes, shiftText } from "./assayview.js";

export class LoadingPanel {
  constructor(root, analysis, pair) {
    this.root = root;
    this.analysis = analysis;
    this.field = (name) => root.querySelector(`[data-field="${name}"]`);
    this.second = new SecondPicture(root, analysis.annotation);
    this.chart = new AssayChart(this.field("plot"), { height: 150 });
    keepTyping(root);
    root.querySelector("form").addEventListener("submit", (event) => this.measure(event));
    for (const name of ["threshold", "inclusion_diameter_px", "stock_per_ml"])
      this.field(name).addEventListener("change", () => this.change(name));
    this.field("remove").addEventListener("click", () => analysis.remove("loading"));
    this.field("look").addEventListener("click", () => pair.open(this.about()));
  }

  open() {
    return this.analysis.isReadOnly ? null : this.second.fill(this.assay?.settings);
  }

  get assay() {
    return this.analysis.assays.loading ?? null;
  }

  measure(event) {
    event.preventDefault();
    return this.send({ ...this.second.settings, threshold: null });
  }

  change(name) {
    const text = this.field(name).value.trim();
    if (!this.assay || (text !== "" && !(Number(text) >= 0))) return this.show();
    return this.send({ [name]: text === "" ? null : Number(text) });
  }

  async send(changes) {
    this.root.setAttribute("aria-busy", "true");
    const settings = { ...(this.assay?.settings ?? {}), ...changes };
    await whileDisabled(this.field("measure"), () => this.analysis.set("loading", settings));
    this.root.setAttribute("aria-busy", "false");
    this.show();
  }

  show() {
    const { assay } = this;
    const isDone = Boolean(assay?.histogram);
    this.field("result").hidden = !isDone;
    this.field("remove").hidden = !assay;
    showNotes(this.field("notes"), assay?.error ? [assay.error] : (assay?.notes ?? []));
    if (!isDone) return;
    const [low, high] = assay.lam_interval;
    setText(this.field("headline"), significant(assay.lam, 3));
    setText(this.field("interval"), `95 %: ${significant(low, 3)} to ${significant(high, 3)}`);
    setText(this.field("counts"), `${count(assay.n_inclusions)} in ${count(assay.n_droplets)} droplets`);
    for (const name of ["threshold", "inclusion_diameter_px", "stock_per_ml"])
      offer(this.field(name), assay.settings[name] ?? "");
    this.showFigures(assay);
    this.draw(assay);
  }

  showFigures(assay) {
    const { chi_square: test } = assay;
    showFigures(this.field("figures"), [
      readFrom(assay),
      ["Empty", percent(assay.empty_share)],
      ["One", percent(assay.single_share)],
      ["Two or more", percent(assay.multiple_share)],
      ["One among occupied", `${percent(assay.single_among_occupied)} (Poisson ${percent(assay.single_among_occupied_expected)})`],
      ["λ from the empty ones", significant(assay.lam_zero, 3)],
      ["Fano factor", `${significant(assay.fano, 3)} (1 is random, below ordered, above clumped)`],
      ["χ² against Poisson", test ? `${significant(test.statistic, 3)}, ${test.dof} df, p ${pValue(test.p_value)}` : "too few classes"],
      assay.lam_from_stock !== null && ["λ from the stock", significant(assay.lam_from_stock, 3)],
      ["In no included droplet", count(assay.n_outside)],
    ]);
  }

  draw({ histogram, lam }) {
    this.chart.show({
      x: histogram.map((row) => row.count),
      series: [
        { kind: "bars", color: "--plot-included", values: histogram.map((row) => row.observed) },
        { kind: "curve", color: "--plot-positive", values: histogram.map((row) => row.expected) },
      ],
      barsAreCentred: true,
      yFromZero: true,
      xLabel: "inclusions per droplet",
      yLabel: "droplets",
      label: `Droplets by their number of inclusions, and Poisson's law for λ = ${significant(lam, 3)}: ${histogram
        .map((row) => `${row.count}: ${row.observed}, expected ${fixed(row.expected, 1)}`)
        .join("; ")}`,
      line: null,
    });
  }

  about() {
    const { second_name: name, second_channel: channel, shift } = this.assay;
    return `${name} (${channel}) in green over the droplets; what was counted is outlined. Occupied droplets are orange. Shift ${shiftText(shift)}.`;
  }
}

const pValue = (p) => (p < 0.001 ? "< 0.001" : fixed(p, 3));
