// Small helpers over the DOM. Text always goes in as text; nothing here parses HTML.

export const byId = (id) => {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no element #${id}`);
  return element;
};

// element("p", {class: "note", text: "…", title: "…"}, child, child)
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "text") node.textContent = value;
    else if (name === "class") node.className = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setPressed(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}

// Keeps a button from being pressed again while work is under way. The keyboard finds itself where it was: disabled, a
// button loses the focus.
export async function whileDisabled(button, work) {
  const hadFocus = document.activeElement === button;
  if (hadFocus) button.blur(); // at once, not when the browser next draws
  button.disabled = true;
  try {
    return await work();
  } finally {
    button.disabled = false;
    if (hadFocus && document.activeElement === document.body) button.focus();
  }
}

// Puts the keyboard, where it was at a control that is now hidden or disabled, at the one before it, or else after it.
export function passFocusOn(from) {
  const isUsable = (control) => control.checkVisibility() && !control.disabled;
  if (isUsable(from)) return;
  const all = [...from.parentElement.querySelectorAll("button, input, select")];
  const at = all.indexOf(from);
  [...all.slice(0, at).reverse(), ...all.slice(at)].find(isUsable)?.focus();
}

export function showError(node, message) {
  node.textContent = message ?? "";
  node.hidden = !message;
}

export const isTyping = (target) =>
  target instanceof HTMLElement &&
  (target.isContentEditable ||
    target instanceof HTMLTextAreaElement ||
    target instanceof HTMLSelectElement ||
    (target instanceof HTMLInputElement && !["checkbox", "radio", "range", "button", "file"].includes(target.type)));

// Says a sentence to screen readers without moving the focus.
export function announce(text) {
  const region = document.getElementById("announcer");
  if (region) region.textContent = text;
}
