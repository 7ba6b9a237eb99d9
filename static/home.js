// The home page: uploads by drop, paste and picker, samples, and the list of images.

import { deleteImage, openSample } from "./api.js";
import { announce, byId, whileDisabled } from "./dom.js";
import { count, significant } from "./format.js";
import { Preferences } from "./preferences.js";
import { addressOf, addUpload, openPage, takeFiles, uploadEach } from "./uploads.js";

const images = byId("images");
const preferences = new Preferences();

function fillCard(card, image) {
  const field = (name) => card.querySelector(`[data-field="${name}"]`);
  card.dataset.imageId = image.id;
  field("link").href = image.page_url;
  field("thumbnail").src = image.thumbnail_url;
  field("name").textContent = image.name;
  field("name").title = image.name;
  field("size").textContent = `${image.width} × ${image.height} px, ${image.bit_depth}-bit`;
  field("state").textContent = image.n_found
    ? `${count(image.n_included)} of ${count(image.n_found)} droplets included`
    : "No droplets yet";
  field("state").classList.toggle("done", image.n_found > 0);
  field("scale").textContent = image.calibration ? `${significant(image.calibration.um_per_px)} µm/px` : "pixels only";
  field("scale").className = image.calibration ? "chip ok" : "chip alert";
  card.querySelector("[data-delete]").setAttribute("aria-label", `Delete ${image.name}`);
  return card;
}

function addCard(image) {
  const card = byId("image-card").content.firstElementChild.cloneNode(true);
  // The same file again is the same image: its card moves to the front.
  images.querySelector(`[data-image-id="${CSS.escape(image.id)}"]`)?.remove();
  images.prepend(fillCard(card, image));
  byId("images-section").hidden = false;
  return card;
}

// --- uploads ---

let uploading = 0;

// One image opens at once; several stay on this page as cards.
async function openAll(files) {
  const opened = [];
  uploading += 1;
  try {
    await uploadEach(files, (image) => {
      opened.push(image);
      // Each is searched when its page is opened for the first time, as a single one is at once.
      if (files.length > 1) addCard(image).querySelector('[data-field="link"]').href = addressOf(image);
    });
  } finally {
    uploading -= 1;
  }
  if (files.length === 1 && opened.length === 1) return openPage(opened[0], preferences);
  if (files.length === 1) opened.forEach(addCard);
  if (opened.length) announce(`${opened.length} images opened`);
}

takeFiles(openAll);
// Who opens the first card leaves the rest behind.
window.addEventListener("beforeunload", (event) => {
  if (uploading) event.preventDefault();
});

// --- samples ---

async function openSampleFrom(button) {
  button.setAttribute("aria-busy", "true");
  try {
    openPage(await openSample(button.dataset.sample), preferences);
  } catch (error) {
    addUpload(button.querySelector(".card-title").textContent).fail(error.message);
  }
  button.removeAttribute("aria-busy");
}

for (const button of document.querySelectorAll("[data-sample]"))
  button.addEventListener("click", () => whileDisabled(button, () => openSampleFrom(button)));

// --- delete ---

const dialog = byId("delete-dialog");
let deleting = null;

images.addEventListener("click", (event) => {
  if (!event.target.closest("[data-delete]")) return;
  deleting = event.target.closest("[data-image-id]");
  byId("delete-name").textContent = deleting.querySelector('[data-field="name"]').textContent;
  dialog.returnValue = "";
  dialog.showModal();
});

dialog.addEventListener("close", async () => {
  if (dialog.returnValue !== "delete" || !deleting) return;
  const card = deleting;
  try {
    await deleteImage(card.dataset.imageId);
    const beside = card.nextElementSibling ?? card.previousElementSibling;
    card.remove();
    byId("images-section").hidden = images.children.length === 0;
    // The button that was pressed is gone.
    (beside?.querySelector("a") ?? byId("file-input")).focus();
    announce("Image deleted");
  } catch (error) {
    addUpload(byId("delete-name").textContent).fail(error.message);
  }
});
