// The key map: one table that both runs the keys and fills the shortcut sheet, so the two cannot disagree.

import { byId, element, isTyping } from "./dom.js";

// Commands are {keys, does, group, run}; an entry without run is for the sheet only (mouse and touch).
export class Keys {
  // isShown tells which commands the sheet names.
  constructor(commands, { onHold, isShown = () => true }) {
    this.commands = commands;
    this.isShown = isShown;
    this.byKey = new Map();
    for (const command of commands) if (command.run) for (const key of command.keys) this.byKey.set(key, command);
    this.onHold = onHold;
    window.addEventListener("keydown", (event) => this.down(event));
    window.addEventListener("keyup", (event) => this.onHold(event.code, false));
    window.addEventListener("blur", () => ["KeyH", "Space"].forEach((code) => this.onHold(code, false)));
    this.fillSheet();
  }

  down(event) {
    if (event.defaultPrevented || isTyping(event.target) || document.querySelector("dialog[open]")) return;
    if (event.key === "Escape" && document.querySelector(":popover-open")) return; // the browser closes it
    const onControl = event.target.closest?.("button, a, summary, input, [role=tab], .tabulator");
    if (onControl && ["Enter", " ", "Tab", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"].includes(event.key))
      return;
    if (!event.ctrlKey && !event.metaKey && !event.altKey && this.onHold(event.code, true, event))
      return event.preventDefault();
    const command = this.byKey.get(nameOf(event));
    if (command && command.run(event) !== false) event.preventDefault();
  }

  fillSheet() {
    const named = this.commands.filter(this.isShown);
    const groups = Map.groupBy
      ? Map.groupBy(named, ({ group }) => group)
      : named.reduce(
          (map, command) => map.set(command.group, [...(map.get(command.group) ?? []), command]),
          new Map(),
        );
    for (const [group, commands] of groups) {
      const list = element("dl");
      for (const { keys, shown, does } of commands) {
        const names = (shown ?? keys).map((key) => element("kbd", { text: key }));
        list.append(element("div", {}, element("dt", {}, ...names), element("dd", { text: does })));
      }
      byId("shortcut-groups").append(element("section", {}, element("h3", { text: group }), list));
    }
  }
}

// "G", "Ctrl+Z", "Ctrl+Shift+Z", "Shift+N", "Enter"; Ctrl also stands for the Mac's Command.
function nameOf(event) {
  const isLetter = event.key.length === 1 && /[a-z]/i.test(event.key);
  const key = isLetter ? event.key.toUpperCase() : event.key;
  const parts = [];
  if (event.ctrlKey || event.metaKey) parts.push("Ctrl");
  if (event.shiftKey && (isLetter || event.key.length > 1)) parts.push("Shift");
  return [...parts, key].join("+");
}
