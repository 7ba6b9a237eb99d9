// Digital PCR: the second picture, the amplitudes with a threshold to drag, and the concentration.

import { AssayChart } from "./assaychart.js";
import { setText, whileDisabled } from "./dom.js";
import { count, droplets, significant } from "./format.js";
import { SecondPicture } from "./secondpicture.js";
import { keepTyping, offer, readFrom, showFigures, showNotes, shiftText } from "./assayview.js";

const interval = (pair, factor = 1) => {
  const [low, high] = pair.map((value) => (value === null ? null : value * factor));
  if (high === null) return `above ${significant(low)}`;
  return `${significant(low)} to ${significant(high)}`;
};

// How many droplets the rain is, and what all of them being negative or positive would mean.
function rainText(n, ends, { copies_per_ul_exact: isCalibrated }) {
  return `${droplets(n)}; ${interval(ends)} ${isCalibrated ? "copies/µL" : "copies per droplet"}, as all or none of them are negative`;
}

export class DdpcrPanel {
  constructor(root, analysis, pair) {
    this.root = root;
    this.analysis = analysis;
    this.pair = pair;
    this.field = (name) => root.querySelector(`[data-field="${name}"]`);
    this.second = new SecondPicture(root, analysis.annotation);
    this.chart = new AssayChart(this.field("plot"), { height: 190 });
    keepTyping(root);
    root.querySelector("form").addEventListener("submit", (event) => this.measure(event));
    for (const name of ["threshold", "dilution", "amplitude"])
      this.field(name).addEventListener("change", () => this.change(name));
    this.field("propose").addEventListener("click", () => this.send({ threshold: null }));
    this.field("remove").addEventListener("click", () => analysis.remove("ddpcr"));
    this.field("look").addEventListener("click", () => pair.open(this.about()));
  }

  open() {
    return this.analysis.isReadOnly ? null : this.second.fill(this.assay?.settings);
  }

  get assay() {
    return this.analysis.assays.ddpcr ?? null;
  }

  get settings() {
    return this.assay?.settings ?? {};
  }

  measure(event) {
    event.preventDefault();
    // Another picture or channel has other amplitudes, so an old threshold means nothing there.
    return this.send({ ...this.second.settings, threshold: null, shift_px: null });
  }

  // An empty field gives the choice back to the software.
  change(name) {
    const { value } = this.field(name);
    if (name === "amplitude") return this.send({ amplitude: value, threshold: null });
    const number = value.trim() === "" ? null : Number(value);
    if (name === "dilution" && !(number > 0)) return this.show();
    return this.send({ [name]: number });
  }

  async send(changes) {
    this.root.setAttribute("aria-busy", "true");
    await whileDisabled(this.field("measure"), () => this.analysis.set("ddpcr", { ...this.settings, ...changes }));
    this.root.setAttribute("aria-busy", "false");
    this.show();
  }

  show() {
    const { assay } = this;
    const isDone = Boolean(assay?.estimate);
    this.field("result").hidden = !isDone;
    this.field("remove").hidden = !assay;
    showNotes(this.field("notes"), assay?.error ? [assay.error] : (assay?.notes ?? []));
    if (!isDone) return;
    const { estimate } = assay;
    this.showHeadline(estimate);
    setText(this.field("counts"), `${count(estimate.k)} of ${count(estimate.n)} positive`);
    this.showFigures(assay);
    offer(this.field("threshold"), significant(assay.threshold, 4));
    this.field("propose").disabled = assay.settings.threshold === null;
    offer(this.field("dilution"), assay.settings.dilution);
    this.field("amplitude").value = assay.settings.amplitude;
    this.field("look").hidden = assay.second_name === null;
    this.draw(assay);
  }

  showHeadline({ state, lam, lam_exact: exact, copies_per_ul: copies, copies_per_ul_exact: copiesExact }) {
    const isCalibrated = copiesExact !== null;
    const [low, high] = isCalibrated ? copiesExact : exact;
    const value = isCalibrated ? copies : lam;
    const text = { none_positive: `< ${significant(high, 3)}`, saturated: `> ${significant(low, 3)}` };
    setText(this.field("headline"), text[state] ?? significant(value, 4));
    setText(this.field("unit"), isCalibrated ? "copies/µL" : "copies per droplet");
    setText(this.field("interval"), state === "measured" ? `95 %: ${significant(low, 4)} to ${significant(high, 4)}` : "95 % limit");
  }

  showFigures(assay) {
    const { estimate, polydisperse, n_rain: rain, rain_concentrations: ends, n_outside: outside, shift } = assay;
    showFigures(this.field("figures"), [
      readFrom(assay),
      ["λ, copies per droplet", `${significant(estimate.lam, 4)} (${interval(estimate.lam_exact)})`],
      estimate.copies_per_ul_wilson && ["Wilson interval", `${interval(estimate.copies_per_ul_wilson)} /µL`],
      polydisperse && [
        "By each droplet's volume",
        `${significant(polydisperse.copies_per_ul)} (${interval(polydisperse.copies_per_ul_interval)}) /µL`,
      ],
      ["Rain, neither clearly positive nor negative", rain ? rainText(rain, ends, estimate) : "no droplet"],
      estimate.mean_volume_pl && ["Mean volume", `${significant(estimate.mean_volume_pl)} pL`],
      ["Not in the second picture", outside ? droplets(outside) : "no droplet"],
      ["Shift", shiftText(shift)],
    ]);
  }

  draw(assay) {
    const included = new Set(this.analysis.annotation.included.map(({ id }) => id));
    const { ids, amplitude } = assay.droplets;
    this.values = amplitude.filter((_, index) => included.has(ids[index]));
    const { rain_low: low, rain_high: high } = assay.threshold_proposal;
    this.chart.show({
      x: this.values.map((_, index) => index + 1),
      series: this.split(assay.threshold),
      xLabel: "droplet",
      yLabel: "amplitude",
      label: `Amplitudes of ${this.values.length} droplets; threshold at ${significant(assay.threshold, 4)}`,
      line: {
        axis: "y",
        value: assay.threshold,
        band: high > low ? [low, high] : null,
        label: "Threshold",
        isFixed: this.analysis.isReadOnly,
        onMove: (value) => this.preview(value),
        onEnd: (value) => this.send({ threshold: value }),
      },
    });
  }

  split(threshold) {
    const part = (keeps) => this.values.map((value) => (keeps(value) ? value : null));
    return [
      { kind: "points", color: "--plot-included", values: part((value) => value < threshold) },
      { kind: "points", color: "--plot-positive", values: part((value) => value >= threshold) },
    ];
  }

  // While the line moves: counts and estimate at once; the interval follows from the server.
  preview(threshold) {
    const k = this.values.filter((value) => value >= threshold).length;
    const n = this.values.length;
    const { mean_volume_pl: volume, dilution } = this.assay.estimate;
    const lam = -Math.log(1 - k / n);
    const value = volume ? (lam / (volume * 1e-6)) * dilution : lam;
    setText(this.field("headline"), k === n ? "saturated" : significant(value, 4));
    setText(this.field("interval"), "");
    setText(this.field("counts"), `${count(k)} of ${count(n)} positive`);
    this.field("threshold").value = significant(threshold, 4);
    this.chart.update(this.split(threshold));
  }

  about() {
    const { second_name: name, second_channel: channel, shift } = this.assay;
    return `${name} (${channel}) in green over the droplets. Positive droplets are orange. Shift ${shiftText(shift)}.`;
  }
}
