// Places each popover beside the button that opened it, and runs the tabs and the phone's sheet.

import { byId } from "./dom.js";

const GAP = 6;

export function placePopovers() {
  const invokers = new Map(); // by popover: the button that opened it last
  for (const popover of document.querySelectorAll("[popover]")) {
    const buttons = [...document.querySelectorAll(`[popovertarget="${popover.id}"]`)];
    invokers.set(popover, buttons[0]);
    for (const button of buttons) button.addEventListener("click", () => invokers.set(popover, button));
    const tell = (isOpen) => buttons.forEach((button) => button.setAttribute("aria-expanded", String(isOpen)));
    popover.addEventListener("toggle", (event) => {
      tell(event.newState === "open");
      if (event.newState === "open") place(popover, invokers.get(popover));
    });
    tell(false);
  }
  window.addEventListener("resize", () => {
    for (const popover of document.querySelectorAll(":popover-open")) place(popover, invokers.get(popover));
  });
}

function place(popover, invoker) {
  const anchor = invoker.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = popover;
  const left = Math.min(Math.max(anchor.right - width, GAP), window.innerWidth - width - GAP);
  const below = anchor.bottom + GAP;
  const top =
    below + height <= window.innerHeight - GAP
      ? below
      : Math.max(GAP, Math.min(anchor.top - GAP - height, window.innerHeight - height - GAP));
  popover.style.left = `${Math.max(left, GAP)}px`;
  popover.style.top = `${top}px`;
}

// Tabs after the ARIA pattern: arrows move, one tab in the tab order.
export class Tabs extends EventTarget {
  constructor(list) {
    super();
    this.tabs = [...list.querySelectorAll("[role=tab]")];
    for (const tab of this.tabs) tab.addEventListener("click", () => this.open(tab));
    list.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    const index = this.tabs.indexOf(document.activeElement);
    const next = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: this.tabs.length - 1 }[event.key];
    if (index < 0 || next === undefined) return;
    event.preventDefault();
    const tab = this.tabs[(next + this.tabs.length) % this.tabs.length];
    this.open(tab);
    tab.focus();
  }

  open(chosen) {
    for (const tab of this.tabs) {
      const isChosen = tab === chosen;
      tab.setAttribute("aria-selected", String(isChosen));
      tab.tabIndex = isChosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !isChosen;
    }
    this.dispatchEvent(new CustomEvent("open", { detail: chosen.id }));
  }
}

// On a phone the panel is a sheet under the image: peek, half or full height. Tap or drag its handle.
export class Sheet {
  constructor(panel, handle) {
    this.panel = panel;
    this.handle = handle;
    this.sizes = ["peek", "half", "full"];
    this.set("peek");
    this.wasDragged = false;
    handle.addEventListener("click", () => {
      // After a drag with the mouse comes a click, which would step once more; after one with a finger comes none.
      if (!this.wasDragged) this.step(this.panel.dataset.sheet === "full" ? -2 : 1);
      this.wasDragged = false;
    });
    handle.addEventListener("pointerdown", (event) => this.startDrag(event));
  }

  set(size) {
    this.panel.dataset.sheet = size;
    this.handle.setAttribute("aria-expanded", String(size !== "peek"));
  }

  // Where all of the panel scrolls, as on a phone, a tab that opens must not do so out of sight.
  showFrom(part) {
    const body = part.parentElement;
    if (getComputedStyle(body).overflowY === "auto") body.scrollTop = part.offsetTop - body.offsetTop;
  }

  step(by) {
    const index = this.sizes.indexOf(this.panel.dataset.sheet) + by;
    this.set(this.sizes[Math.min(Math.max(index, 0), 2)]);
  }

  startDrag(event) {
    const ended = new AbortController();
    const from = event.clientY;
    this.wasDragged = false;
    this.handle.setPointerCapture(event.pointerId);
    const end = (last) => {
      ended.abort();
      const moved = last.clientY - from;
      if (Math.abs(moved) < 12) return;
      this.step(moved < 0 ? 1 : -1);
      this.wasDragged = true;
    };
    this.handle.addEventListener("pointerup", end, { signal: ended.signal });
    this.handle.addEventListener("pointercancel", () => ended.abort(), { signal: ended.signal });
  }
}
