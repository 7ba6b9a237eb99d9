// The download list, built from the formats that the server offers. Saves first, so a file is what is on screen.

import { fetchExport } from "./api.js";
import { byId, element, showError, whileDisabled } from "./dom.js";

// In the order of use: what most people take first.
const GROUPS = [
  [
    "Numbers",
    {
      xlsx: ["Workbook (XLSX)", "Droplets, summary and settings on sheets"],
      csv: ["Table (CSV)", "One row per droplet, included and excluded; opens in Excel"],
      methods: ["Methods text", "A paragraph for your paper, with model and settings"],
    },
  ],
  [
    "Pictures",
    {
      overlay: ["Overlay (PNG)", "The image with outlines and scale bar"],
      overlay_svg: ["Overlay (SVG)", "The same with outlines that can be edited"],
      histogram: ["Histogram (PNG)", "Diameters of the included droplets"],
      histogram_svg: ["Histogram (SVG)", "The same for a figure"],
      pair: ["Both pictures (PNG)", "The droplets, and what ddPCR or loading read of the second picture"],
    },
  ],
  [
    "For Fiji, ImageJ and QuPath",
    {
      imagej: ["ImageJ regions (ZIP)", "Outlines for the ROI Manager"],
      imagej_csv: ["ImageJ results (CSV)", "The columns of Analyze Particles"],
      labels: ["Label image (TIFF)", "Each droplet's pixels carry its number"],
      label_stack: ["Label stack (TIFF)", "As many planes as keep overlapping droplets whole"],
      ome: ["Label image (OME-TIFF)", "With the scale in its metadata"],
    },
  ],
  [
    "For training and other programs",
    {
      coco: ["COCO (JSON)", "Masks as run lengths"],
      coco_polygons: ["COCO polygons (JSON)", "Outlines as polygons"],
      labelme: ["LabelMe (JSON)", "Outlines for LabelMe"],
      yolo: ["YOLO segmentation (ZIP)", "Outlines as normalised polygons"],
    },
  ],
  [
    "Everything",
    {
      settings: ["Settings (JSON)", "Model, parameters, filters and scale; runs again"],
      bundle: ["Everything (ZIP)", "All files in one archive"],
    },
  ],
];

// loadNews shows what changed on the server meanwhile, from another tab or by a batch.
export function buildDownloads(imageId, autosave, status, loadNews) {
  const offered = new Set(document.body.dataset.exports.split(",").filter(Boolean));
  const known = new Set(GROUPS.flatMap(([, formats]) => Object.keys(formats)));
  const rest = [...offered].filter((format) => !known.has(format)).map((format) => [format, [format.toUpperCase(), ""]]);
  for (const [heading, formats] of [...GROUPS, ["More", Object.fromEntries(rest)]]) {
    const here = Object.entries(formats).filter(([format]) => offered.has(format));
    if (!here.length) continue;
    const list = element("ul", { class: "downloads" });
    for (const [format, [title, note]] of here) {
      const button = element(
        "button",
        { type: "button", class: "download", data: { format } },
        element("b", { text: title }),
        element("span", { text: note }),
      );
      const parts = { autosave, status, loadNews };
      button.addEventListener("click", () => whileDisabled(button, () => download(imageId, format, button, parts)));
      list.append(element("li", {}, button));
    }
    byId("downloads").append(element("h3", { text: heading }), list);
  }
}

// The picture of both pictures is there once an assay has a second one.
export function offerPairWith(analysis) {
  const item = document.querySelector('[data-format="pair"]')?.parentElement;
  const show = () => (item.hidden = !Object.values(analysis.assays).some((assay) => assay?.second_name));
  if (!item) return;
  analysis.addEventListener("change", show);
  show();
}

async function download(imageId, format, button, { autosave, status, loadNews }) {
  const problem = byId("download-error");
  showError(problem, null);
  try {
    if (!(await autosave.flush()))
      throw new Error(
        `Your last changes are not saved yet, so the file would differ from the page. ${autosave.problem.message}`,
      );
    await loadNews();
    const { blob, filename } = await fetchExport(imageId, format);
    offer(blob, filename);
    status.say(`Downloaded ${filename}`);
  } catch (error) {
    button.after(problem); // where one looks: the list is longer than the panel
    showError(problem, error.message);
    problem.scrollIntoView({ block: "nearest" });
  }
}

function offer(blob, filename) {
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: filename });
  link.click();
  // The browser reads the blob after the click has been handled.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
