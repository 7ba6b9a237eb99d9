// Files that are dropped or pasted on the annotate page: opened as images of their own, after this one is saved.

import { lookAhead, uploadImage } from "./api.js";
import { byId } from "./dom.js";

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");

export function takeDroppedFiles(autosave, status, preferences) {
  const veil = byId("drop-veil");
  const take = (files) => files.length && openFiles(files, autosave, status, preferences);
  window.addEventListener("dragenter", (event) => carriesFiles(event) && (veil.hidden = false));
  window.addEventListener("dragleave", (event) => event.relatedTarget === null && (veil.hidden = true));
  // Without this the browser would leave the page to show the file.
  window.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  window.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    veil.hidden = true;
    take([...event.dataTransfer.files]);
  });
  window.addEventListener("paste", (event) => take([...event.clipboardData.files]));
}

// One file opens at once; several are left on the home page, where they are chosen from. A bad one says so and holds
// up no other, but then this page stays, where it can be read.
async function openFiles(files, autosave, status, preferences) {
  const opened = [];
  const problems = [];
  for (const file of files) {
    try {
      status.say(`Sending ${file.name}`, "working");
      opened.push(...(await uploadImage(file, (share) => status.say(`Sending ${file.name}: ${percent(share)}`, "working"))));
    } catch (error) {
      problems.push(`${file.name}: ${error.message}`);
    }
  }
  if (problems.length) return status.notify([...problems, othersText(opened.length)].join(" ").trim());
  if (!(await autosave.flush())) return status.notify(`Not saved yet, so this image stays open. ${autosave.problem.message}`);
  if (opened.length !== 1) return location.assign(document.querySelector(".brand").href);
  const [image] = opened;
  const isFresh = image.n_found === 0 && preferences.get("findOnOpen");
  if (isFresh && image.width * image.height <= preferences.get("pxPerS")) lookAhead(image.id);
  location.assign(isFresh ? `${image.page_url}#find` : image.page_url);
}

const othersText = (n) => (n ? `${n === 1 ? "The other image is" : `The other ${n} images are`} on the home page.` : "");

const percent = (share) => `${Math.round(100 * share)} %`;
