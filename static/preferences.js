// How this person likes to look at images; kept in the browser and carried from image to image. Never measured data.

const KEY = "sam-droplet-preferences";

const DEFAULTS = {
  style: "outline", // outline | fill | none
  labels: "none", // none | id | diameter
  opacity: 1,
  showExcluded: true,
  stretch: false,
  tone: { brightness: 0, contrast: 0, gamma: 1 },
  turbo: false,
  preview: true,
  growPx: 1,
  brushPx: 12,
  findOnOpen: true,
  pxPerS: 1.5e6, // how much of an image was searched in a second, the last time that one was
  find: { sensitivity: 0.5, minUm: null, maxUm: null, minPx: null, maxPx: null, rimPx: null, mode: "droplets" },
};

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return {}; // storage blocked or damaged: start from the defaults
  }
}

export class Preferences extends EventTarget {
  constructor() {
    super();
    this.values = { ...DEFAULTS, ...read() };
    // What is chosen in another tab holds here, too; else the next choice here would undo it.
    window.addEventListener("storage", ({ key }) => key === KEY && this.takeOver());
  }

  takeOver() {
    const before = this.values;
    this.values = { ...DEFAULTS, ...read() };
    const names = Object.keys(this.values).filter((name) => !isAlike(this.values[name], before[name]));
    for (const name of names) this.dispatchEvent(new CustomEvent("change", { detail: name }));
    if (names.length) this.dispatchEvent(new Event("elsewhere"));
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    if (this.values[name] === value) return;
    this.values[name] = value;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.values));
    } catch {
      // Storage is blocked: the choice lasts for this page only.
    }
    this.dispatchEvent(new CustomEvent("change", { detail: name }));
  }
}

const isAlike = (a, b) => JSON.stringify(a) === JSON.stringify(b);
