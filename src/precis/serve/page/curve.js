// The held-out recovery of a soft prompt while it is trained: 0 is no document, 1 is reading it all.

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
      " 1 is as good as reading it all, 0 is no document.",
      best > 1 ? " Above 1, it is surer of those answers than the model is with the document before it." : "",
    );
    this.drawing.setAttribute("width", width);
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.drawing.setAttribute(
      "aria-label",
      `Recovery by training step: from ${this.points[0][1].toFixed(2)} to ${now.toFixed(2)} at step ` +
        `${this.points.at(-1)[0]} of ${most}. A line at 1 marks what is as good as reading it all.`,
    );
    const path = this.points.map(([step, value]) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    this.drawing.replaceChildren(
      ...this.level(1, y(1), width, "as good as reading it all", "whole", this.points[0][1] < 1),
      ...this.level(0, y(0), width, "no document", "none", true),
      drawn("polyline", { points: path, class: "line" }),
      ...this.points.map(([step, value]) => drawn("circle", { cx: x(step), cy: y(value), r: 3, class: "dot" })),
      drawn("text", { x: MARGIN.left, y: HEIGHT - 8, class: "axis" }, "step 0"),
      drawn("text", { x: width - MARGIN.right, y: HEIGHT - 8, class: "axis end" }, `step ${most}`),
    );
  }

  level(value, height, width, words, kind, isAbove) {
    return [
      drawn("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: height, y2: height, class: kind }),
      drawn("text", { x: MARGIN.left - 8, y: height + 4, class: "axis end" }, value),
      // at the left, where a curve is far below
      drawn("text", { x: MARGIN.left, y: height + (isAbove ? -6 : 15), class: `axis ${kind}-words` }, words),
    ];
  }
}
