// Which page of the file is open, and on which channel droplets are looked for. Measured are all channels, always.

import { openPage } from "./api.js";

export function choosePage(annotation, autosave, status) {
  const select = document.getElementById("page-choice");
  select?.addEventListener("change", async () => {
    const page = Number(select.value);
    select.value = String(annotation.image.page ?? select.dataset.page); // stays, if the other cannot be opened
    try {
      if (!(await autosave.flush())) throw new Error(`Not saved yet. ${autosave.problem.message}`);
      location.assign((await openPage(annotation.image.id, page)).page_url);
    } catch (error) {
      status.notify(error.message);
    }
  });
}

export function chooseChannel(annotation, editor) {
  const select = document.getElementById("find-channel");
  if (!select) return;
  const show = () => (select.value = annotation.run.channel ?? "");
  annotation.addEventListener("droplets", show);
  annotation.addEventListener("channel", show);
  select.addEventListener("change", () => editor.setChannel(select.value === "" ? null : Number(select.value)));
}
