// Files that are dropped or pasted on the annotate page: opened as images of their own, after this one is saved.

import { uploadImage } from "./api.js";
import { openPage, takeDroppedFiles } from "./uploads.js";

export function openDroppedFiles(autosave, status, preferences) {
  takeDroppedFiles((files) => openFiles(files, autosave, status, preferences));
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
  openPage(opened[0], preferences);
}

const othersText = (n) => (n ? `${n === 1 ? "The other image is" : `The other ${n} images are`} on the home page.` : "");

const percent = (share) => `${Math.round(100 * share)} %`;
