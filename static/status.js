// Says what is going on, in words and only what is true: the status line, the save state and the notice over the image.

import { announce, byId, setText } from "./dom.js";

export class Status {
  constructor(autosave) {
    this.line = byId("status");
    this.notice = byId("notice");
    this.saveState = byId("save-state");
    this.clock = null;
    byId("notice-close").addEventListener("click", () => this.clearNotice());
    autosave.addEventListener("state", () => this.showSaving(autosave));
  }

  say(text, kind = "idle") {
    this.stopClock();
    this.line.dataset.kind = kind;
    setText(this.line, text);
    announce(text);
  }

  // Shows work under way with the seconds it has taken so far.
  work(text) {
    this.say(`${text}…`, "working");
    const from = performance.now();
    this.clock = setInterval(() => {
      setText(this.line, `${text}… ${((performance.now() - from) / 1000).toFixed(0)} s`);
    }, 1000);
  }

  stopClock() {
    clearInterval(this.clock);
    this.clock = null;
  }

  // An error or an explanation that stays until it is read.
  notify(text, kind = "error") {
    this.say(text, kind);
    this.notice.dataset.kind = kind;
    byId("notice-text").textContent = text;
    this.notice.hidden = false;
  }

  clearNotice() {
    this.notice.hidden = true;
  }

  showSaving({ state, problem }) {
    const texts = {
      saved: "Saved",
      waiting: "Saving…",
      saving: "Saving…",
      retrying: "Not saved: trying again",
      refused: "Not saved",
    };
    this.saveState.dataset.state = state;
    this.saveState.title =
      problem && (state === "retrying" || state === "refused")
        ? problem.message
        : "Every change is saved on the server at once";
    setText(this.saveState, texts[state]);
  }
}
