// One document: what it is, how its compile goes, and the conversation about it.

import { send } from "./api.js";
import { Conversation } from "./conversation.js";
import { Curve } from "./curve.js";
import { announce, byId, element, put } from "./elements.js";
import { PARTS, count, doing, duration, partOf, size, times } from "./words.js";

export class DocumentView {
  /** `changed` is called when something was done to the document. */
  constructor(item, changed) {
    this.item = item;
    this.changed = changed;
    this.compile = new CompileView(() => this.act("cancel"));
    this.conversation = new Conversation(() => this.item);
    this.title = element("h2");
    this.about = element("p", { class: "about small" });
    this.bars = element("div", { class: "bars", hidden: true });
    this.problem = element("p", { class: "notice bad", role: "alert", hidden: true });
    this.notYet = element("p", { class: "not-yet" });
    this.element = element(
      "article",
      {},
      element("div", { class: "title" }, this.title, this.remover()),
      this.about,
      this.problem,
      this.bars,
      this.compile.element,
      this.notYet,
      this.conversation.element,
    );
    this.update(item, 0);
  }

  /** Show how it is now; `ahead` documents are compiled before it. */
  update(item, ahead) {
    this.item = item;
    const { job, model } = item;
    this.title.textContent = job?.filename ?? model?.precis.document ?? item.name;
    put(this.about, this.facts());
    this.removal.hidden = job === null;
    if (model !== null) this.showBars(model.precis);
    this.compile.update(item, ahead);
    this.conversation.element.hidden = !item.askable;
    this.conversation.update();
    put(this.notYet, item.askable ? "" : this.whyNot());
  }

  facts() {
    const { job, model } = this.item;
    const kept = model === null || model.precis.text_kept ? "its text is kept with it" : "its text is not kept";
    return [
      job ? size(job.bytes) : null,
      kept,
      `called “${this.item.name}” in the API`,
      model ? `for ${model.precis.base_model.split(/[\\/]/).at(-1)}` : null,
    ]
      .filter(Boolean)
      .join(" · ");
  }

  whyNot() {
    const status = this.item.job?.status;
    if (status === "queued" || status === "running") {
      return "You can ask as soon as there is a first soft prompt: well before the end.";
    }
    if (status === "ready") return "Its compiled file is no longer in the library.";
    return "There is nothing to ask: it ended before a first soft prompt was there.";
  }

  /** The document and what stands in its place, drawn to scale. */
  showBars(about) {
    const { document_tokens: tokens, slots, ratio } = about;
    if (!tokens || !slots) return;
    const key = `${tokens} ${slots}`;
    if (this.bars.dataset.shown === key) return;
    this.bars.dataset.shown = key;
    const share = Math.min(1, slots / tokens);
    this.bars.replaceChildren(
      bar("The document", `${count(tokens)} tokens`, 1, "whole"),
      bar("The soft prompt", `${count(slots)} positions in their place, ${times(ratio)} times fewer`, share, "short"),
    );
    this.bars.hidden = false;
  }

  remover() {
    this.removal = element("div", { class: "removal" });
    const sure = element("span", { hidden: true });
    const first = element("button", { type: "button", class: "plain" }, "Remove");
    const yes = element("button", { type: "button", class: "danger" }, "Remove it");
    const no = element("button", { type: "button" }, "Keep it");
    const open = (isOpen) => {
      sure.hidden = !isOpen;
      first.hidden = isOpen;
      (isOpen ? no : first).focus();
    };
    first.addEventListener("click", () => open(true));
    no.addEventListener("click", () => open(false));
    yes.addEventListener("click", () => this.act("delete"));
    sure.addEventListener("keydown", (event) => event.key === "Escape" && open(false));
    sure.append("Its upload and compiled file are deleted. ", yes, " ", no);
    this.removal.append(first, sure);
    return this.removal;
  }

  async act(what) {
    const path = `/v1/documents/${this.item.job.id}`;
    try {
      if (what === "cancel") await send(`${path}/cancel`, { method: "POST" });
      else await send(path, { method: "DELETE" });
      put(this.problem, "");
      announce(what === "cancel" ? "The compile was cancelled." : "The document was removed.");
      byId("main").focus({ preventScroll: true }); // the button that had it is gone
    } catch (error) {
      put(this.problem, error.message);
    }
    this.changed();
  }
}

function bar(title, words, share, kind) {
  const filled = element("span", { class: `fill ${kind}` });
  filled.style.inlineSize = `${(100 * share).toFixed(2)}%`;
  return element(
    "div",
    { class: "bar" },
    element("p", {}, element("b", {}, title), ` ${words}`),
    element("div", { class: "track", "aria-hidden": "true" }, filled),
  );
}

/** How a compile goes. */
class CompileView {
  constructor(cancel) {
    this.heading = element("h3");
    this.parts = PARTS.map((part) => element("li", {}, part.title));
    this.steps = element("ol", { class: "steps", "aria-label": "Parts of the compile" }, ...this.parts);
    this.doing = element("p", { class: "doing" });
    this.progress = element("progress", { "aria-label": "Progress of this part" });
    this.amount = element("span");
    this.time = element("span");
    this.usableMore = element("span");
    this.usable = element(
      "p",
      { class: "usable", hidden: true },
      element("strong", {}, "You can ask it now."),
      " ",
      this.usableMore,
    );
    this.error = element("p", { class: "notice bad", hidden: true });
    this.curve = new Curve();
    this.notes = element("ul", { class: "notes small" });
    this.cancel = element("button", { type: "button", click: cancel }, "Cancel");
    this.going = element(
      "div",
      {},
      this.steps,
      this.doing,
      this.progress,
      element("p", { class: "measure small" }, this.amount, this.time),
    );
    this.summary = element("summary");
    this.history = element("details", { hidden: true }, this.summary);
    this.element = element(
      "section",
      { class: "compile", "aria-label": "Compile" },
      element("div", { class: "title" }, this.heading, this.cancel),
      this.usable,
      this.error,
      this.going,
      this.curve.element,
      this.notes,
      this.history,
    );
  }

  update(item, ahead) {
    const job = item.job;
    this.element.hidden = job === null;
    if (job === null) return;
    const status = job.status;
    const going = status === "queued" || status === "running";
    this.element.dataset.status = status;
    put(this.heading, HEADINGS[status]);
    this.cancel.hidden = !going;
    this.going.hidden = !going;
    if (going) this.showGoing(job, ahead);
    this.showUsable(item, going);
    put(this.error, status === "failed" ? (job.error ?? "It failed.") : "");
    const steps = job.stage === "training" ? job.total : 0;
    this.curve.show(job.curve, steps);
    this.showNotes(job.notes);
    this.fold(job);
  }

  showGoing(job, ahead) {
    const current = partOf(job.stage);
    this.parts.forEach((part, place) => {
      part.className = place < current ? "past" : place === current ? "present" : "";
      if (place === current) part.setAttribute("aria-current", "step");
      else part.removeAttribute("aria-current");
    });
    const before = ahead === 1 ? "1 document is" : `${ahead} documents are`;
    put(this.doing, job.status === "running" ? doing(job.stage) : ahead ? `${before} before it.` : "It begins soon.");
    if (job.status === "running" && job.total > 1) {
      this.progress.max = job.total;
      this.progress.value = job.done;
      put(this.amount, `${count(job.done)} of ${count(job.total)}`);
    } else {
      this.progress.removeAttribute("value");
      put(this.amount, "");
    }
    this.progress.hidden = job.status !== "running";
    put(this.time, job.status === "running" ? timeOf(job) : "");
  }

  showUsable(item, going) {
    const shown = item.askable && item.job.status !== "ready";
    const more = going
      ? "Its answers get better until the compile ends."
      : "What was there when the compile ended is kept.";
    put(this.usableMore, more);
    this.usable.hidden = !shown;
  }

  showNotes(notes) {
    if (this.notes.children.length === notes.length) return;
    this.notes.replaceChildren(...notes.map((note) => element("li", {}, note)));
  }

  /** Once all is done, how it went steps aside, but stays there. */
  fold(job) {
    const folded = job.status === "ready";
    const parts = [this.curve.element, this.notes];
    if (folded && this.history.hidden) this.history.append(...parts);
    if (!folded && !this.history.hidden) this.element.append(...parts, this.history);
    const best = Math.max(...job.curve.map(([, value]) => value));
    const recovery = job.curve.length ? `, recovery ${best.toFixed(2)}` : "";
    put(this.summary, folded ? `Compiled in ${duration(job.seconds_spent)}${recovery}` : "");
    this.history.hidden = !folded;
  }
}

const HEADINGS = {
  queued: "Waiting",
  running: "Compiling",
  ready: "Compiled",
  failed: "The compile failed",
  cancelled: "The compile was cancelled",
};

function timeOf(job) {
  const spent = `${duration(job.seconds_spent)} so far`;
  return job.seconds_left === null ? spent : `${spent}, about ${duration(job.seconds_left)} left`;
}
