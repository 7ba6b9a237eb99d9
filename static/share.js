// Links by which others look at this image: make, copy, withdraw.

import { getShares, makeShare, withdrawShares } from "./api.js";
import { byId, setText, showError } from "./dom.js";

export class Sharing {
  constructor(imageId, status) {
    Object.assign(this, { imageId, status });
    this.changes = 0; // links made, and withdrawn
    byId("share-popover").addEventListener("toggle", (event) => {
      if (event.newState === "open") this.attempt(() => this.look());
    });
    byId("share-make").addEventListener("click", () =>
      this.attempt(async () => {
        const made = await makeShare(imageId);
        this.changes += 1;
        this.show(made);
        selectAll(byId("share-url"));
      }),
    );
    byId("share-withdraw").addEventListener("click", () =>
      this.attempt(async () => {
        await withdrawShares(imageId);
        this.changes += 1;
        this.show({ links: 0 });
        status.say("All links to this image are withdrawn");
      }),
    );
    byId("share-copy").addEventListener("click", () => this.copy());
  }

  // An answer that a new or a withdrawn link has overtaken knows less.
  async look() {
    const { changes } = this;
    const found = await getShares(this.imageId);
    if (changes === this.changes) this.show(found);
  }

  async attempt(action) {
    showError(byId("share-error"), null);
    try {
      await action();
    } catch (error) {
      showError(byId("share-error"), error.message);
    }
  }

  show({ links, url = null, is_local: isLocal = false }) {
    byId("share-local").hidden = !isLocal;
    byId("share-count").hidden = byId("share-withdraw").hidden = !links;
    setText(byId("share-count"), links === 1 ? "One link to this image works." : `${links} links to this image work.`);
    byId("share-made").hidden = byId("share-copy").hidden = url === null;
    byId("share-url").value = url ?? "";
  }

  async copy() {
    const field = byId("share-url");
    selectAll(field);
    try {
      await navigator.clipboard.writeText(field.value);
      this.status.say("Link copied");
    } catch {
      this.status.say(`The browser did not let the page copy: press ${/Mac/.test(navigator.platform) ? "⌘" : "Ctrl"}+C`);
    }
  }
}

// Firefox selects without the focus, and then Ctrl+C copies nothing.
function selectAll(field) {
  field.focus();
  field.select();
}
