// Files on their way to the server: a row each with its true progress, and the ways in: picker, drop and paste.

import { lookAhead, uploadImage } from "./api.js";
import { byId, element } from "./dom.js";

export function addUpload(name) {
  const bar = element("progress", { max: 1, value: 0, "aria-label": `Upload of ${name}` });
  const text = element("span", { class: "upload-text", text: "Sending…" });
  const row = element("li", { class: "upload" }, element("b", { text: name }), bar, text);
  byId("uploads").append(row);
  return {
    progress(share) {
      bar.value = share;
      text.textContent = share < 1 ? `Sending… ${Math.round(share * 100)} %` : "Reading the image…";
    },
    done: () => row.remove(),
    fail(message) {
      row.classList.add("failed");
      bar.remove();
      text.textContent = message;
      text.setAttribute("role", "alert");
      const close = element("button", { type: "button", class: "button small", text: "Dismiss" });
      close.addEventListener("click", () => row.remove());
      row.append(close);
    },
  };
}

async function upload(file) {
  const row = addUpload(file.name);
  try {
    const opened = await uploadImage(file, (share) => row.progress(share));
    row.done();
    return opened;
  } catch (error) {
    row.fail(error.message);
    return [];
  }
}

// Uploads one file after the other; a bad one says so in its row and holds up no other.
export async function uploadEach(files, onOpened) {
  for (const file of files) for (const image of await upload(file)) onOpened(image);
}

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");

// Hands over the files that come in by any way.
export function takeFiles(onFiles) {
  byId("file-input").addEventListener("change", ({ target }) => {
    onFiles([...target.files]);
    target.value = "";
  });
  takeDroppedFiles(onFiles);
}

// Hands over the files that are dropped on the page or pasted.
export function takeDroppedFiles(onFiles) {
  const veil = byId("drop-veil");
  const take = ({ files }) => files.length && onFiles([...files]);
  window.addEventListener("dragenter", (event) => {
    if (carriesFiles(event)) veil.hidden = false;
  });
  // Without this the browser would leave the page to show the file.
  window.addEventListener("dragover", (event) => {
    if (carriesFiles(event)) event.preventDefault();
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) veil.hidden = true;
  });
  window.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    veil.hidden = true;
    take(event.dataTransfer);
  });
  window.addEventListener("paste", (event) => take(event.clipboardData));
}

// An image is searched when its page is opened for the first time.
export const addressOf = (image) => (image.n_found === 0 ? `${image.page_url}#find` : image.page_url);

// Opens an image's page; the server begins to look at it while the page is on its way, unless that
// takes so long that it will be a job, which can be stopped.
export function openPage(image, preferences) {
  const isFresh = image.n_found === 0 && preferences.get("findOnOpen");
  if (isFresh && image.width * image.height <= preferences.get("pxPerS")) lookAhead(image.id);
  location.assign(addressOf(image));
}
