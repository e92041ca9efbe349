// Asking one document: questions, answers as they come, what they took, and how they can be checked.

import { RefusedError, ask, wasStopped } from "./api.js";
import { announce, element, put } from "./elements.js";
import { confidence, count, seconds, size, times } from "./words.js";

const NOT_KEPT =
  "The document's text is not kept with it: this answer is from the soft prompt alone, and there is none from the " +
  "whole document to set beside it. Names and numbers may be wrong.";

/** How sure the model must be, in percent, or else it is to say that the document does not say; 0: never. */
const threshold = {
  name: "precis-refuse-below",
  get: () => Number(sessionStorage.getItem(threshold.name) ?? 0),
  set(percent) {
    if (percent > 0) sessionStorage.setItem(threshold.name, Math.min(100, percent));
    else sessionStorage.removeItem(threshold.name);
  },
};

export class Conversation {
  /** `item` gives the document as it is now. */
  constructor(item) {
    this.item = item;
    this.turns = [];
    this.stopper = null;
    this.answering = false;
    this.inView = false;
    this.log = element("ol", { class: "turns", "aria-label": "Conversation" });
    this.box = element("textarea", {
      rows: 2,
      id: "question",
      placeholder: "Ask something that the document says",
      "aria-describedby": "keys",
    });
    this.sender = element("button", { type: "submit", class: "primary" }, "Ask");
    this.stopButton = element("button", { type: "button", hidden: true, click: () => this.stop() }, "Stop");
    this.anew = element(
      "button",
      { type: "button", class: "plain", hidden: true, click: () => this.restart() },
      "New conversation",
    );
    this.least = element("input", { id: "refuse", type: "number", min: 0, max: 100, step: "any", placeholder: "0" });
    this.refusing = element(
      "label",
      { for: "refuse", class: "refusing" },
      "Where it is less than ",
      this.least,
      " % sure, it shall say that the document does not say.",
    );
    this.form = element(
      "form",
      { class: "ask" },
      element("label", { for: "question" }, "Your question"),
      element("div", { class: "row" }, this.box, this.sender, this.stopButton),
      element(
        "p",
        { class: "small", id: "keys" },
        "Enter asks, Shift and Enter begin a new line, Escape stops an answer. ",
        this.anew,
      ),
      element("p", { class: "small" }, this.refusing),
    );
    this.element = element(
      "section",
      { class: "conversation", "aria-labelledby": "ask-title" },
      element("h3", { id: "ask-title" }, "Ask it"),
      this.log,
      this.form,
    );
    this.listen();
    this.update();
    new IntersectionObserver((seen) => (this.inView = seen.at(-1).isIntersecting)).observe(this.form);
    new ResizeObserver(() => this.answering && this.keepInView()).observe(this.log);
  }

  /** Follow the document: only where its confidence is known can an answer be refused. */
  update() {
    this.refusing.hidden = !this.knowsConfidence;
    if (document.activeElement !== this.least) this.least.value = threshold.get() || "";
  }

  get knowsConfidence() {
    return this.item().model?.precis.confidence ?? false;
  }

  listen() {
    this.least.addEventListener("change", () => threshold.set(Number(this.least.value)));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
  }

  submit() {
    const question = this.box.value.trim();
    if (question === "" || this.stopper !== null) return;
    this.box.value = "";
    this.box.focus();
    this.ask(question);
  }

  stop() {
    this.stopper?.abort();
  }

  restart() {
    this.stop();
    this.turns = [];
    this.log.replaceChildren();
    this.anew.hidden = true;
    this.box.focus();
  }

  /** Ask, after what was asked and answered before. */
  async ask(question) {
    const turn = new Turn(this, question, this.messages(question));
    this.turns.push(turn);
    this.log.append(turn.element);
    this.anew.hidden = false;
    this.form.scrollIntoView({ block: "nearest" });
    this.answering = true;
    await this.run((signal) => turn.answer(signal));
    this.answering = false;
    this.keepInView();
  }

  /** Scroll on with an answer that grows, unless the reader has gone elsewhere. */
  keepInView() {
    if (this.inView) this.form.scrollIntoView({ block: "nearest" });
  }

  /** What was said so far, and the question; what was not answered is left out. */
  messages(question) {
    const answered = this.turns.filter((turn) => turn.text !== "");
    const before = answered.flatMap((turn) => [
      { role: "user", content: turn.question },
      { role: "assistant", content: turn.text },
    ]);
    return [...before, { role: "user", content: question }];
  }

  /** Do one thing that can be stopped; nothing else is asked meanwhile. */
  async run(task) {
    if (this.stopper !== null) return;
    this.stopper = new AbortController();
    this.element.classList.add("busy");
    this.sender.disabled = true;
    this.stopButton.hidden = false;
    try {
      await task(this.stopper.signal);
    } finally {
      this.stopper = null;
      this.element.classList.remove("busy");
      this.sender.disabled = false;
      if (document.activeElement === this.stopButton) this.box.focus();
      this.stopButton.hidden = true;
    }
  }
}

/** A question, its answer, and what belongs to it. */
class Turn {
  constructor(conversation, question, messages) {
    this.conversation = conversation;
    this.question = question;
    this.messages = messages;
    this.text = "";
    this.reply = new Reply();
    this.more = element("div", { class: "more" });
    this.element = element(
      "li",
      { class: "turn" },
      element("p", { class: "question" }, question),
      this.reply.element,
      this.more,
    );
  }

  get name() {
    return this.conversation.item().name;
  }

  async answer(signal) {
    const kept = this.conversation.item().model?.precis.text_kept ?? true;
    const percent = this.conversation.knowsConfidence ? threshold.get() : 0;
    const wanted = { from: "soft_prompt", ...(percent > 0 && { refuse_below: percent / 100 }) };
    const about = await this.reply.fill(this.name, this.messages, wanted, signal);
    this.text = this.reply.text;
    if (about === null) {
      if (this.reply.failed) this.offerAgain();
      return;
    }
    if (about.withheld !== null) {
      this.reply.said.classList.add("refused");
      this.more.append(withheld(about.withheld, percent));
    }
    this.more.append(cost(about), sureness(about.confidence, this.conversation.item()));
    if (!kept) this.more.append(element("p", { class: "small" }, NOT_KEPT));
    else this.more.append(passages(about.passages), this.comparison(about));
  }

  offerAgain() {
    const again = element("button", { type: "button" }, "Ask again");
    again.addEventListener("click", () => {
      if (this.conversation.stopper !== null) return;
      this.conversation.turns = this.conversation.turns.filter((turn) => turn !== this);
      this.element.remove();
      this.conversation.box.focus();
      this.conversation.ask(this.question);
    });
    this.more.replaceChildren(again);
  }

  /** A button that asks the whole document the same, and shows both side by side. */
  comparison(about) {
    const place = element("div", { class: "comparison" });
    const button = element("button", { type: "button" }, "Compare with reading the whole document");
    button.addEventListener("click", () =>
      this.conversation.run(async (signal) => {
        button.hidden = true;
        const whole = new Reply("The model reads the whole document first. This may take a while.");
        const table = new Comparison(this.reply.text, about, whole);
        place.replaceChildren(table.element, button);
        table.element.focus({ preventScroll: true }); // the button that had it is gone
        place.scrollIntoView({ block: "nearest" });
        const costs = await whole.fill(this.name, this.messages, { from: "document" }, signal);
        if (costs !== null) {
          table.finish(costs);
          announce(table.difference.textContent);
        } else {
          button.hidden = false;
          button.textContent = "Compare again";
        }
      }),
    );
    place.append(button);
    return place;
  }
}

/** An answer as it comes. */
class Reply {
  constructor(waiting = "…") {
    this.text = "";
    this.failed = false;
    this.said = element("p", { class: "answer-text waiting" }, waiting);
    this.remark = element("p", { class: "remark", hidden: true });
    this.element = element("div", { class: "answer", "aria-live": "polite" }, this.said, this.remark);
  }

  /** Ask, and show what comes; give what the server tells of the whole answer, or null if there is none. */
  async fill(model, messages, precis, signal) {
    this.element.setAttribute("aria-busy", "true");
    let about = null;
    try {
      for await (const part of ask(model, messages, precis, signal)) {
        if (part.text) this.add(part.text);
        if (part.finish === "length") put(this.remark, "Cut off: it reached the most that one answer may have.");
        about = part.about ?? about;
      }
      if (this.text.trim() === "") this.show("(The model said nothing.)", "waiting");
    } catch (error) {
      this.break(error);
      about = null;
    } finally {
      this.element.removeAttribute("aria-busy");
    }
    return about;
  }

  add(text) {
    this.text += text;
    this.show(this.text, "");
  }

  show(text, kind) {
    this.said.className = `answer-text ${kind}`;
    this.said.textContent = text;
  }

  break(error) {
    if (this.text === "") this.said.hidden = true;
    this.failed = !wasStopped(error);
    if (this.failed) {
      this.remark.classList.add("bad");
      this.remark.setAttribute("role", "alert");
    }
    put(this.remark, this.failed ? inWords(error) : "Stopped.");
  }
}

function inWords(error) {
  if (error instanceof RefusedError && error.status === 429) {
    const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : " Try again in a moment.";
    return `The server has as many questions as it can hold.${wait}`;
  }
  return error.message;
}

function cost(about) {
  return element(
    "p",
    { class: "cost" },
    part("First word after", seconds(about.first_token_s)),
    part("all after", seconds(about.seconds)),
    part("", `${count(about.positions)} positions`, "before the question"),
    part("", size(about.prefix_bytes), "of memory for them"),
  );
}

function part(before, value, after = "") {
  return element("span", {}, before && `${before} `, element("b", {}, value), after && ` ${after}`);
}

function sureness(value, item) {
  const still = item.job && ["queued", "running"].includes(item.job.status);
  const words = {
    none: still
      ? "It is calibrated at the end of the compile."
      : "It is not known how far this file's answers can be trusted.",
    some: "that it is right, and stands in the document.",
  };
  return element(
    "p",
    { class: "sureness" },
    "Confidence: ",
    element("b", {}, confidence(value)),
    element("span", { class: "small" }, `${value === null ? `. ${words.none}` : ` ${words.some}`}`),
  );
}

/** What the model said, where it was too unsure to be shown. */
function withheld(said, percent) {
  return element(
    "details",
    { class: "withheld" },
    element("summary", {}, "The model would have said …"),
    element("p", { class: "answer-text" }, said || "(nothing)"),
    element("p", { class: "small" }, `It was less than ${percent} % sure of it.`),
  );
}

/** What of the document an answer was made from. */
function passages(found) {
  if (found.length === 0) {
    return element(
      "p",
      { class: "small" },
      "No passage of the document has a word of this question: the answer was made from the soft prompt alone.",
    );
  }
  const places = [...new Set(found.map((passage) => passage.page))].sort((a, b) => a - b);
  const pages = `${places.length === 1 ? "page" : "pages"} ${places.join(", ")}`;
  const number = found.length === 1 ? "this passage" : `these ${found.length} passages`;
  return element(
    "details",
    { class: "passages", open: true },
    element("summary", {}, `Made from ${number} of the document, ${pages}`),
    ...found.map((passage) =>
      element(
        "figure",
        {},
        element("blockquote", {}, passage.text.replace(/\n\s*\n/g, "\n")),
        element("figcaption", {}, `${passage.source}, page ${passage.page}`),
      ),
    ),
    element(
      "p",
      { class: "small" },
      "Found by the words of the question, and read by the model after the soft prompt.",
    ),
  );
}

/** The answer from soft prompt and passage beside the one that the whole document gives. */
class Comparison {
  constructor(text, about, whole) {
    this.about = about;
    this.cells = new Map();
    this.difference = element("p", { class: "difference", hidden: true });
    const title = about.passages.length > 0 ? "Soft prompt and passage" : "Soft prompt";
    const head = element("tr", {}, element("td"), column(title), column("Whole document"));
    const shown = element("p", { class: "answer-text" }, text || "(The model said nothing.)");
    const rows = [
      line("Answer", shown, whole.element),
      this.measured("first", "First word", seconds(about.first_token_s)),
      this.measured("all", "All of it", seconds(about.seconds)),
      this.measured("positions", "Positions before the question", count(about.positions)),
      this.measured("memory", "Memory for them", size(about.prefix_bytes)),
    ];
    const table = element(
      "table",
      {},
      element("caption", { class: "unseen" }, "The same question, without and with the whole document before it"),
      element("thead", {}, head),
      element("tbody", {}, ...rows),
    );
    this.element = element("div", { tabindex: -1 }, table, this.difference);
  }

  measured(name, title, value) {
    const cell = element("span", { class: "number" }, "");
    this.cells.set(name, cell);
    return line(title, element("span", { class: "number" }, value), cell);
  }

  finish(costs) {
    this.cells.get("first").textContent = seconds(costs.first_token_s);
    this.cells.get("all").textContent = seconds(costs.seconds);
    this.cells.get("positions").textContent = count(costs.positions);
    this.cells.get("memory").textContent = size(costs.prefix_bytes);
    const parts = [
      less(costs.positions / this.about.positions, "fewer positions", "more positions"),
      less(costs.prefix_bytes / this.about.prefix_bytes, "less memory", "more memory"),
      less(costs.first_token_s / this.about.first_token_s, "sooner to the first word", "later to the first word"),
    ];
    put(
      this.difference,
      `Without the whole document: ${parts.join(", ")}. The server keeps a document that it has read for a while; ` +
        "asked again soon, the whole document answers sooner, for the same memory.",
    );
  }
}

function column(title) {
  return element("th", { scope: "col" }, title);
}

function line(title, ...cells) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, title),
    ...cells.map((cell) => element("td", {}, cell)),
  );
}

function less(factor, better, worse) {
  return factor >= 1 ? `${times(factor)} times ${better}` : `${times(1 / factor)} times ${worse}`;
}
