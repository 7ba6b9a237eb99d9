// How this person likes to look at images; kept in the browser and carried from image to image. Never measured data.

// Each under its own key: a tab that writes one never undoes another one, of which it may not have heard yet.
const KEY = "sam-droplet-preference-";

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

function read(name) {
  try {
    return JSON.parse(localStorage.getItem(KEY + name)) ?? DEFAULTS[name];
  } catch {
    return DEFAULTS[name]; // storage blocked or damaged
  }
}

export class Preferences extends EventTarget {
  constructor() {
    super();
    this.values = Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, read(name)]));
    // What is chosen in another tab holds here, too.
    window.addEventListener("storage", ({ key }) => {
      const name = key?.startsWith(KEY) && key.slice(KEY.length);
      if (name in DEFAULTS) this.takeOver(name);
    });
  }

  takeOver(name) {
    this.values[name] = read(name);
    this.dispatchEvent(new CustomEvent("change", { detail: name }));
    this.dispatchEvent(new Event("elsewhere"));
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    if (this.values[name] === value) return;
    this.values[name] = value;
    try {
      localStorage.setItem(KEY + name, JSON.stringify(value));
    } catch {
      // Storage is blocked: the choice lasts for this page only.
    }
    this.dispatchEvent(new CustomEvent("change", { detail: name }));
  }
}
