// The table of droplets, linked both ways with the canvas. Tabulator holds the rows; the annotation owns the data.

import { TabulatorFull as Tabulator } from "./vendor/tabulator/tabulator_esm.min.mjs";
import { byId, element, setPressed } from "./dom.js";
import { stateText } from "./filters.js";
import { count, fixed, significant } from "./format.js";
import { styleOf } from "./palette.js";

const SETTLE_MS = 60;
const ROW_PX = 28;

export class Table {
  constructor(annotation, { onOpen }) {
    this.annotation = annotation;
    this.onOpen = onOpen;
    this.rows = "all";
    this.drawn = []; // the droplets of the rows
    this.shown = new Set(); // their ids
    this.layout = null; // which columns there are, in which unit
    this.timer = null;
    this.grid = new Tabulator(byId("table"), this.options());
    this.isBuilt = new Promise((resolve) => this.grid.on("tableBuilt", resolve)).then(() => this.nameParts());
    this.grid.on("rowClick", (event, row) => this.click(event, row.getData().id));
    this.grid.on("rowMouseEnter", (_, row) => annotation.hover(row.getData().id));
    this.grid.on("rowMouseLeave", () => annotation.hover(null));
    // Rows that scroll in were drawn before something was selected.
    this.grid.on("scrollVertical", () => this.markHovered());
    for (const kind of ["droplets", "filters", "calibration"]) annotation.addEventListener(kind, () => this.schedule());
    annotation.addEventListener("selection", () => this.showSelection());
    annotation.addEventListener("hover", () => this.markHovered());
    for (const button of document.querySelectorAll("[data-rows]"))
      button.addEventListener("click", () => this.filterRows(button.dataset.rows));
    this.schedule();
  }

  // A grid may hold only rows and groups of rows: the scrolling box becomes the group.
  nameParts() {
    const root = byId("table");
    root.setAttribute("aria-label", "Droplets");
    root.querySelector(".tabulator-tableholder").setAttribute("role", "rowgroup");
    root.querySelector(".tabulator-table").setAttribute("role", "presentation");
  }

  options() {
    return {
      index: "id",
      data: [],
      columns: this.columns(),
      layout: "fitColumns",
      height: "100%",
      rowHeight: ROW_PX,
      columnDefaults: { headerSortTristate: true, resizable: false, hozAlign: "right", headerHozAlign: "right" },
      rowFormatter: (row) => this.formatRow(row),
    };
  }

  columns() {
    const { unit, factor } = this.annotation.length;
    const number = (title, field, format, headerTooltip, width) => ({
      title,
      field,
      headerTooltip,
      minWidth: width,
      sorter: "number",
      formatter: (cell) => format(cell.getValue()),
    });
    return [
      {
        title: "State",
        titleFormatter: () => element("span", { class: "visually-hidden", text: "State" }),
        field: "included",
        width: 30,
        hozAlign: "center",
        headerTooltip: "Included or excluded",
        formatter: (cell) => this.stateMark(cell.getData()),
        sorter: (a, b) => Number(b) - Number(a),
      },
      number("No.", "id", String, "The droplet's number; it is never used again", 52),
      number(
        `Diam. (${unit})`,
        "diameter_px",
        (value) => significant(value * factor, 4),
        "Diameter of the circle with the same area",
        100,
      ),
      ...(this.showsReasons ? [this.reasons()] : this.numbers(number)),
    ];
  }

  // Of excluded droplets, and of those decided by hand, one asks why first.
  get showsReasons() {
    return this.rows === "excluded" || this.rows === "by-hand";
  }

  reasons() {
    return {
      title: this.rows === "excluded" ? "Why it is out" : "In or out, and why",
      field: "exclusion_reason",
      hozAlign: "left",
      headerHozAlign: "left",
      minWidth: 160,
      widthGrow: 8,
      cssClass: "reason-cell",
      formatter: (cell) => stateText(cell.getData()),
      sorter: (a, b, rowA, rowB) => stateText(rowA.getData()).localeCompare(stateText(rowB.getData())),
    };
  }

  numbers(number) {
    return [
      number("Circularity", "circularity", (value) => fixed(value, 3), "4π × area / perimeter², at most 1", 84),
      number(
        "Intensity",
        "mean_intensity",
        (value) => significant(value, 4),
        "Mean of the raw pixel values inside",
        76,
      ),
    ];
  }

  // A ring, whole or dashed, in the colour that the canvas uses.
  stateMark(droplet) {
    return element("span", { class: `swatch ${styleOf(droplet)}`, title: stateText(droplet) });
  }

  formatRow(row) {
    const droplet = row.getData();
    const node = row.getElement();
    node.classList.toggle("is-excluded", !droplet.included);
    node.classList.toggle("is-selected", this.annotation.selection.has(droplet.id));
    node.classList.toggle("is-hovered", this.annotation.hovered === droplet.id);
    node.title = droplet.included && !droplet.included_although ? "" : stateText(droplet);
  }

  schedule() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.show();
    }, SETTLE_MS);
  }

  async show() {
    await this.isBuilt;
    if (byId("pane-droplets").hidden) return; // shown again when its tab opens
    const { unit, factor } = this.annotation.length;
    const layout = `${unit}${factor}${this.showsReasons && this.rows}`;
    if (this.layout !== layout) {
      this.layout = layout;
      this.grid.setColumns(this.columns());
    }
    const droplets = this.annotation.droplets.filter((droplet) => this.isShown(droplet));
    this.showEmpty(droplets.length === 0);
    // The server's answers bring droplets anew, which a row has to hold to tell what becomes of them.
    if (droplets.length !== this.drawn.length || droplets.some((droplet, index) => droplet !== this.drawn[index])) {
      this.drawn = droplets;
      this.shown = new Set(droplets.map(({ id }) => id));
      await this.grid.replaceData(droplets);
    } else {
      for (const row of this.grid.getRows("visible")) row.reformat();
    }
    this.showSelection();
  }

  isShown({ included, excluded_by_user: isOut, included_by_user: isKept }) {
    if (this.rows === "by-hand") return isOut || isKept;
    return this.rows === "all" || included === (this.rows === "included");
  }

  showEmpty(isEmpty) {
    byId("table").hidden = isEmpty;
    byId("table-empty").hidden = !isEmpty;
    byId("table-empty").textContent = this.annotation.droplets.length
      ? `No droplet is ${this.rows === "by-hand" ? "excluded or included by hand" : this.rows}.`
      : "No droplets yet. Find them all, or click one in the image.";
  }

  filterRows(rows) {
    this.rows = rows;
    for (const button of document.querySelectorAll("[data-rows]")) setPressed(button, button.dataset.rows === rows);
    byId("table").querySelector(".tabulator-tableholder").scrollTop = 0;
    this.show();
  }

  click(event, id) {
    const { annotation } = this;
    if (event.ctrlKey || event.metaKey) {
      const ids = new Set(annotation.selection);
      if (!ids.delete(id)) ids.add(id);
      annotation.select(ids);
    } else if (event.shiftKey && annotation.selection.size) this.selectThrough(id);
    else annotation.select([id]);
    this.onOpen(id);
  }

  // Selects every row from the last selected one to this one, in the order shown.
  selectThrough(id) {
    const order = this.grid.getRows("active").map((row) => row.getData().id);
    const from = order.indexOf([...this.annotation.selection].at(-1)),
      to = order.indexOf(id);
    this.annotation.select(order.slice(Math.min(from, to), Math.max(from, to) + 1));
  }

  showSelection() {
    const { selection } = this.annotation;
    byId("selection-note").textContent = selection.size ? `${count(selection.size)} selected` : "";
    this.reformat();
    if (selection.size !== 1) return;
    const [id] = selection;
    if (this.shown.has(id)) this.reveal(id);
  }

  // Scrolls a row into view. Tabulator's own scrollToRow misses rows near the end.
  reveal(id) {
    const index = this.grid.getRows("active").findIndex((row) => row.getIndex() === id);
    const holder = byId("table").querySelector(".tabulator-tableholder");
    if (index < 0 || !holder) return; // its rows are still on their way
    const rowPx = holder.querySelector(".tabulator-row")?.offsetHeight || ROW_PX;
    const top = index * rowPx;
    if (top >= holder.scrollTop && top + rowPx <= holder.scrollTop + holder.clientHeight) return;
    holder.scrollTop = top - (holder.clientHeight - rowPx) / 2;
  }

  markHovered() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.reformat();
    });
  }

  reformat() {
    for (const row of this.grid.getRows("visible")) this.formatRow(row);
  }
}
