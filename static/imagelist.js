// The images of this server in a list beside the open one: thumbnail, name and how far each is.

import { byId, element } from "./dom.js";
import { count } from "./format.js";

export class ImageList {
  constructor(workbench) {
    this.workbench = workbench;
    byId("images-popover").addEventListener("toggle", (event) => event.newState === "open" && this.show());
    byId("image-links").addEventListener("click", (event) => this.open(event));
  }

  // images: in the order in which A and D open them.
  fill(images) {
    this.images = images;
    byId("images-button").hidden = images.length < 2;
  }

  show() {
    const { image: here, droplets, included } = this.workbench.annotation;
    // What the list says of the open image was so when the page opened.
    const now = { n_found: droplets.length, n_included: included.length };
    const items = this.images.map((image) =>
      element("li", {}, image.id === here.id ? linkTo({ ...image, ...now }, true) : linkTo(image, false)),
    );
    byId("image-links").replaceChildren(...items);
    const current = byId("image-links").querySelector("[aria-current]");
    current?.scrollIntoView({ block: "center" });
    current?.focus({ preventScroll: true });
  }

  // What is not saved yet keeps this image open.
  async open(event) {
    const link = event.target.closest("a");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    byId("images-popover").hidePopover();
    await this.workbench.openPage(link.href);
  }
}

function linkTo(image, isHere) {
  const state = image.n_found ? `${count(image.n_included)} of ${count(image.n_found)} droplets` : "No droplets yet";
  return element(
    "a",
    { href: image.page_url, class: "image-link", "aria-current": isHere ? "page" : null },
    element("img", { src: image.thumbnail_url, alt: "", loading: "lazy", width: 56, height: 42 }),
    element("b", { text: image.name }),
    element("span", { class: image.n_found ? "done" : "muted", text: state }),
  );
}
