// The held-out recovery of a soft prompt while it is trained: how probable it makes the whole document's answers.
// It measures the optimisation; how many answers are right is another question.

import { drawn, element } from "./elements.js";

const HEIGHT = 190;
const MARGIN = { top: 22, right: 14, bottom: 26, left: 34 };

export class Curve {
  constructor() {
    this.drawing = drawn("svg", { role: "img", height: HEIGHT });
    this.caption = element("figcaption");
    this.element = element("figure", { class: "curve", hidden: true }, this.caption, this.drawing);
    this.points = [];
    this.last = 0;
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** Show points [step, recovery]; `last` is the step at which training is to end, if it is known. */
  show(points, last) {
    const same = JSON.stringify([points, last]) === JSON.stringify([this.points, this.last]);
    if (same) return;
    this.points = points;
    this.last = last;
    this.element.hidden = points.length === 0;
    this.draw();
  }

  draw() {
    const width = this.element.clientWidth;
    if (this.points.length === 0 || width === 0) return;
    // before training there is no curve, but a first soft prompt, from a handful of questions
    const isFirst = this.points.length === 1 && this.last === 0;
    this.drawing.toggleAttribute("hidden", isFirst);
    const now = this.points.at(-1)[1];
    const best = Math.max(...this.points.map(([, value]) => value));
    const low = Math.min(0, ...this.points.map(([, value]) => value));
    const high = Math.max(1.15, best + 0.1);
    const most = Math.max(this.last, this.points.at(-1)[0], 1);
    const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
    const x = (step) => MARGIN.left + (step / most) * inner.width;
    const y = (value) => MARGIN.top + ((high - value) / (high - low)) * inner.height;

    this.caption.replaceChildren(
      element("strong", {}, `Recovery ${best.toFixed(2)}`),
      isFirst ? ", a first estimate on few questions." : " on questions it is not trained on.",
      " A measure of the optimisation, not of right answers: how probable the whole document's answers have become, " +
        "from 0 (no document) to 1 (all of it before the question).",
    );
    this.drawing.setAttribute("width", width);
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.drawing.setAttribute(
      "aria-label",
      `Recovery by training step: from ${this.points[0][1].toFixed(2)} to ${now.toFixed(2)} at step ` +
        `${this.points.at(-1)[0]} of ${most}. A line at 1 marks the whole document.`,
    );
    const line = this.points.map(([step, value]) => [x(step), y(value)]);
    const path = line.map(([across, down]) => `${across.toFixed(1)},${down.toFixed(1)}`).join(" ");
    this.drawing.replaceChildren(
      ...level(1, y(1), width, "whole"),
      ...level(0, y(0), width, "none"),
      words("the whole document", "whole", y(1), width, line),
      words("no document", "none", y(0), width, line),
      drawn("polyline", { points: path, class: "line" }),
      ...line.map(([cx, cy]) => drawn("circle", { cx, cy, r: 3, class: "dot" })),
      drawn("text", { x: MARGIN.left, y: HEIGHT - 8, class: "axis" }, "step 0"),
      drawn("text", { x: width - MARGIN.right, y: HEIGHT - 8, class: "axis end" }, `step ${most}`),
    );
  }
}

function level(value, height, width, kind) {
  return [
    drawn("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: height, y2: height, class: kind }),
    drawn("text", { x: MARGIN.left - 8, y: height + 4, class: "axis end" }, value),
  ];
}

/** Write beside a level what it means: at the first of its ends, above or below, where no curve is. */
function words(text, kind, height, width, line) {
  const length = 7 * text.length;
  const right = width - MARGIN.right;
  const places = [
    { x: MARGIN.left, y: height - 6, from: MARGIN.left, end: "" },
    { x: right, y: height - 6, from: right - length, end: "end" },
    { x: right, y: height + 15, from: right - length, end: "end" },
    { x: MARGIN.left, y: height + 15, from: MARGIN.left, end: "" },
  ];
  const free = places.find(({ y, from }) => !crosses(line, from, from + length, y - 16, y + 8)) ?? places[0];
  return drawn("text", { x: free.x, y: free.y, class: `axis ${free.end} ${kind}-words` }, text);
}

/** Whether a line goes through a box. */
function crosses(line, left, right, top, bottom) {
  for (let across = left; across <= right; across += 4) {
    const after = line.findIndex(([x]) => x >= across);
    if (after < 0) continue; // it ends before
    const [x1, y1] = line[Math.max(0, after - 1)];
    const [x2, y2] = line[after];
    const down = x2 === x1 ? y2 : y1 + ((y2 - y1) * (across - x1)) / (x2 - x1);
    if (down >= top && down <= bottom) return true;
  }
  return false;
}
