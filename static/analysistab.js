// The analysis tab: one of its parts at a time, each shown when it is opened and when the numbers change.

import { byId, passFocusOn, setPressed, showError } from "./dom.js";
import { DdpcrPanel } from "./ddpcrpanel.js";
import { LoadingPanel } from "./loadingpanel.js";
import { IntensityClasses, SizeGroups } from "./populationspanel.js";
import { PairDialog } from "./secondpicture.js";
import { StatisticsPanel } from "./statisticspanel.js";

export class AnalysisTab {
  constructor(analysis, overlay) {
    this.analysis = analysis;
    this.overlay = overlay;
    this.pane = byId("pane-analysis");
    const part = (name) => byId(`analysis-${name}`);
    const pair = new PairDialog(analysis.imageId);
    this.parts = {
      statistics: [new StatisticsPanel(part("statistics"), analysis)],
      populations: [new SizeGroups(part("populations"), analysis), new IntensityClasses(part("populations"), analysis)],
      ddpcr: [new DdpcrPanel(part("ddpcr"), analysis, pair)],
      loading: [new LoadingPanel(part("loading"), analysis, pair)],
    };
    this.shown = "statistics";
    if (analysis.isReadOnly) this.lock();
    for (const button of this.buttons) button.addEventListener("click", () => this.open(button.dataset.part));
    analysis.addEventListener("change", () => this.refresh());
    analysis.addEventListener("fresh", () => this.refreshStatistics());
    analysis.addEventListener("problem", ({ detail }) => showError(byId("analysis-error"), detail));
  }

  get buttons() {
    return [...this.pane.querySelectorAll("[data-part]")];
  }

  get isOpen() {
    return !this.pane.hidden;
  }

  open(name = this.shown) {
    this.shown = name;
    for (const button of this.buttons) {
      const isShown = button.dataset.part === name;
      setPressed(button, isShown);
      byId(`analysis-${button.dataset.part}`).hidden = !isShown;
    }
    for (const part of this.parts[name]) {
      part.open?.()?.catch?.(({ message }) => showError(byId("analysis-error"), message));
      part.show?.();
    }
    this.mark();
  }

  // Who looks at a shared page reads the settings, and changes none.
  lock() {
    for (const input of this.pane.querySelectorAll("input:not([data-field=weighted]), select")) input.disabled = true;
    this.offerOnlySetUp();
  }

  // To guests, only what was set up is shown.
  offerOnlySetUp() {
    const { assays } = this.analysis;
    const isThere = { statistics: true, populations: Boolean(assays.groups || assays.intensity), ddpcr: Boolean(assays.ddpcr), loading: Boolean(assays.loading) };
    for (const button of this.buttons) button.hidden = !isThere[button.dataset.part];
    for (const half of this.pane.querySelectorAll("[data-assay]")) half.hidden = !assays[half.dataset.assay];
    if (!isThere[this.shown]) this.shown = "statistics";
  }

  // The canvas marks what the part that is shown is about.
  mark() {
    const wanted = { populations: ["intensity", "groups"], ddpcr: ["ddpcr"], loading: ["loading"] }[this.shown] ?? [];
    const marks = this.analysis.marks(this.isOpen ? wanted : []);
    for (const droplet of this.analysis.annotation.byId.values()) droplet.mark = marks.get(droplet.id) ?? null;
    this.overlay.invalidate();
  }

  refresh() {
    if (this.analysis.isReadOnly) this.offerOnlySetUp();
    this.mark();
    if (!this.isOpen) return;
    const focused = document.activeElement;
    for (const part of this.parts[this.shown]) part.show?.();
    if (this.pane.contains(focused)) passFocusOn(focused);
  }

  refreshStatistics() {
    if (this.isOpen && this.shown === "statistics") this.parts.statistics[0].open();
  }
}
