// How results of assays are listed: figures, notes, and a few turns of phrase.

import { element } from "./dom.js";
import { fixed, significant } from "./format.js";

// rows: [name, text] pairs; what is false or null is left out.
export function showFigures(list, rows) {
  list.replaceChildren(
    ...rows
      .filter(Boolean)
      .map(([name, text]) => element("div", {}, element("dt", { text: name }), element("dd", { text }))),
  );
}

// Which picture and channel an assay reads, and whether its threshold was chosen by a person.
export const readFrom = ({ second_name: name, second_channel: channel, settings }) => [
  "Read from",
  `${settings.second_image_id ? name : "this same image"} (${channel}), threshold ${settings.threshold === null ? "proposed" : "chosen by hand"}`,
];

export function showNotes(list, notes) {
  list.hidden = notes.length === 0;
  list.replaceChildren(...notes.map((text) => element("li", { text })));
}

// What a person is typing is theirs until they leave the field or send it: an answer that comes meanwhile waits.
export function keepTyping(root) {
  root.addEventListener("input", ({ target }) => {
    target.dataset.typing = "";
  });
  // Captured, so that the field is free before its own listeners put things right.
  for (const type of ["change", "focusout"]) root.addEventListener(type, ({ target }) => delete target.dataset.typing, true);
  root.addEventListener("change", refuseNoNumber, true);
}

// What is no number, such as 25,5 where the browser wants a point, reads as empty; it must not undo a choice.
function refuseNoNumber(event) {
  if (!event.target.validity?.badInput) return;
  event.stopPropagation();
  event.target.reportValidity();
}

export function offer(field, value) {
  if (!("typing" in field.dataset)) field.value = value;
}

export const percent = (share) => (share === null ? "–" : `${fixed(100 * share, 1)} %`);

export function shiftText({ dx_px: dx, dy_px: dy, turn_degrees: turn, stretch_percent: stretch }) {
  if (!dx && !dy) return "none";
  const turned = turn || stretch ? `, turned ${signed(turn)}°, stretched ${signed(stretch)} %` : "";
  return `${signed(dx)}, ${signed(dy)} px${turned}`;
}

const signed = (value) => `${value < 0 ? "−" : "+"}${significant(Math.abs(value), 3)}`;
