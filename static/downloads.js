// The download list, built from the formats that the server offers. Saves first, so a file is what is on screen.

import { fetchExport } from "./api.js";
import { byId, element, showError } from "./dom.js";

const FORMATS = {
  csv: ["Table (CSV)", "One row per droplet, included and excluded; opens in Excel"],
  xlsx: ["Workbook (XLSX)", "Droplets, summary and settings on sheets"],
  labels: ["Label image (TIFF)", "Each droplet's pixels carry its number; for Fiji and QuPath"],
  imagej: ["ImageJ regions (ZIP)", "Outlines for the ROI Manager"],
  coco: ["COCO (JSON)", "Outlines for training and other programs"],
  labelme: ["LabelMe (JSON)", "Outlines for LabelMe"],
  yolo: ["YOLO segmentation", "Outlines for training"],
  geojson: ["GeoJSON", "Outlines for QuPath"],
  overlay: ["Overlay picture (PNG)", "The image with outlines"],
  json: ["All results (JSON)", "Droplets, settings and model"],
  bundle: ["Everything (ZIP)", "All files in one archive"],
};

export function buildDownloads(imageId, autosave, status) {
  const list = byId("downloads");
  for (const format of document.body.dataset.exports.split(",").filter(Boolean)) {
    const [title, note] = FORMATS[format] ?? [format.toUpperCase(), ""];
    const button = element(
      "button",
      { type: "button", class: "download", data: { format } },
      element("b", { text: title }),
      element("span", { text: note }),
    );
    button.addEventListener("click", () => download(imageId, format, button, autosave, status));
    list.append(element("li", {}, button));
  }
}

export async function download(imageId, format, button, autosave, status) {
  const problem = byId("download-error");
  showError(problem, null);
  button.disabled = true;
  try {
    if (!(await autosave.flush()))
      throw new Error(
        `Your last changes are not saved yet, so the file would differ from the page. ${autosave.problem.message}`,
      );
    const { blob, filename } = await fetchExport(imageId, format);
    offer(blob, filename);
    status.say(`Downloaded ${filename}`);
  } catch (error) {
    showError(problem, error.message);
  } finally {
    button.disabled = false;
  }
}

function offer(blob, filename) {
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: filename });
  link.click();
  // The browser reads the blob after the click has been handled.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
