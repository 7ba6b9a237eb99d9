// Chooses the second picture of a field and its channel, and shows both pictures over each other.

import { fetchExport, listImages } from "./api.js";
import { byId, element, setText, showError } from "./dom.js";

export class SecondPicture {
  // root holds select[data-field=second_image_id], select[data-field=channel] and button[data-field=measure].
  constructor(root, annotation) {
    this.annotation = annotation;
    this.images = [];
    this.picture = root.querySelector('[data-field="second_image_id"]');
    this.channel = root.querySelector('[data-field="channel"]');
    this.measure = root.querySelector('[data-field="measure"]');
    this.picture.addEventListener("change", () => this.showChannels());
  }

  // Offers this image and all others of its size; the picture that was opened right after it comes first.
  // Without the list this same image would be measured, so until it is there nothing is.
  async fill(settings) {
    const own = this.annotation.image;
    this.measure.disabled = true;
    const images = await listImages();
    this.images = images.filter(({ width, height }) => width === own.width && height === own.height);
    const others = this.images.filter(({ id }) => id !== own.id);
    const near = ({ name }) => commonStart(name, own.name);
    others.sort((a, b) => near(b) - near(a) || a.name.localeCompare(b.name));
    const option = ({ id, name, page, n_pages: pages }) =>
      element("option", { value: id, text: pages > 1 ? `${name}, page ${page + 1}` : name });
    const self = element("option", { value: "", text: "This same image" });
    this.picture.replaceChildren(...others.map(option), self);
    if (settings) this.choose(settings.second_image_id ?? "");
    this.showChannels();
    if (settings) this.channel.value = settings.channel ?? "";
    this.measure.disabled = false;
  }

  // A picture that is gone stays chosen, or "this same image" would be measured in its place.
  choose(id) {
    this.picture.value = id;
    if (this.picture.value === id) return;
    this.picture.prepend(element("option", { value: id, text: "A picture that was deleted" }));
    this.picture.value = id;
  }

  showChannels() {
    const chosen = this.images.find(({ id }) => id === (this.picture.value || this.annotation.image.id));
    const names = chosen?.channel_names ?? [];
    this.channel.replaceChildren(
      element("option", { value: "", text: "Brightest channel" }),
      ...names.map((name, index) => element("option", { value: String(index), text: name })),
    );
    this.channel.closest("label").hidden = names.length < 2;
  }

  get settings() {
    const { value } = this.channel;
    return { second_image_id: this.picture.value || null, channel: value === "" ? null : Number(value) };
  }
}

const commonStart = (a, b) => {
  let n = 0;
  while (n < a.length && a[n] === b[n]) n += 1;
  return n;
};

// The one picture with both, in a dialog that fits or scrolls it.
export class PairDialog {
  constructor(imageId) {
    this.imageId = imageId;
    this.dialog = byId("pair-dialog");
    this.image = byId("pair-image");
    this.request = 0;
    this.image.addEventListener("click", () => this.image.classList.toggle("actual-size"));
    this.dialog.addEventListener("close", () => this.release());
  }

  async open(about) {
    this.release();
    const { request } = this;
    setText(byId("pair-about"), about);
    showError(byId("pair-error"), null);
    this.dialog.showModal();
    this.dialog.setAttribute("aria-busy", "true");
    try {
      const { blob } = await fetchExport(this.imageId, "pair");
      if (request !== this.request) return; // closed meanwhile, and perhaps opened anew
      this.url = URL.createObjectURL(blob);
      this.image.src = this.url;
      this.image.hidden = false;
    } catch (error) {
      if (request !== this.request) return;
      showError(byId("pair-error"), error.message);
    }
    this.dialog.setAttribute("aria-busy", "false");
  }

  release() {
    this.request += 1;
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
    this.image.hidden = true;
    this.image.removeAttribute("src");
  }
}
