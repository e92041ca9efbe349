// The page: which documents there are, which of them is shown, and whether the server is there.

import { GoneError, events, getJson, key, send } from "./api.js";
import { DocumentView } from "./document.js";
import { announce, byId, element, put } from "./elements.js";
import { takeUploads } from "./upload.js";
import { state } from "./words.js";

const welcome = byId("welcome");
const BETWEEN_LOOKS_MS = 10_000;
const WHILE_GONE_MS = 2_000;

const page = {
  jobs: new Map(),
  models: new Map(),
  views: new Map(),
  entries: new Map(),
  shown: null,
  following: null,
  timer: 0,
};

// --- what is there ----------------------------------------------------------------------------------------

/** Look at everything, now and again after a while. */
async function look() {
  let wait = BETWEEN_LOOKS_MS;
  try {
    const health = await getJson("/health");
    put(byId("about"), about(health));
    const [jobs, models] = await Promise.all([getJson("/v1/documents"), getJson("/v1/models")]);
    page.jobs = new Map(jobs.data.map((job) => [job.id, job]));
    takeModels(models);
    put(byId("gone"), "");
    byId("key").hidden = true;
    byId("columns").hidden = false;
    show();
    follow();
  } catch (error) {
    if (error instanceof GoneError) {
      put(byId("gone"), `${error.message} This page tries again by itself.`);
      wait = WHILE_GONE_MS;
    } else if (error.status !== 401) {
      put(byId("gone"), error.message);
    } else {
      put(byId("gone"), "");
    }
  }
  byId("has-key").hidden = key.get() === "" || !byId("key").hidden;
  clearTimeout(page.timer);
  page.timer = setTimeout(look, wait);
}

function about(health) {
  const model = health.model.split(/[\\/]/).at(-1);
  return [
    `precis ${health.version}${model ? ` with ${model}` : ""}.`,
    `OpenAI's clients reach it at ${window.location.origin}/v1.`,
  ].join(" ");
}

function takeModels(models) {
  page.models = new Map(models.data.map((model) => [model.id, model]));
}

/** All documents by name: what was uploaded, the newest first, then what else can be asked. */
function items() {
  const uploaded = [...page.jobs.values()].reverse();
  const names = new Set(uploaded.map((job) => job.name));
  const others = [...page.models.values()].filter((model) => !names.has(model.id));
  return [
    ...uploaded.map((job) => item(job.name, job, page.models.get(job.name) ?? null)),
    ...others.map((model) => item(model.id, null, model)),
  ];
}

function item(name, job, model) {
  return { id: job?.id ?? `file ${name}`, name, job, model, askable: job ? job.usable : model !== null };
}

/** How many documents are compiled before this one. */
function ahead(of) {
  if (of.job?.status !== "queued") return 0;
  const open = [...page.jobs.values()].filter((job) => ["queued", "running"].includes(job.status));
  return open.findIndex((job) => job.id === of.job.id);
}

// --- how a compile goes -----------------------------------------------------------------------------------

/** Follow the compile that runs: one at a time, since a browser has few connections to one server. */
async function follow() {
  const open = [...page.jobs.values()].filter((job) => ["queued", "running"].includes(job.status));
  const next = open.find((job) => job.status === "running") ?? open[0];
  if (page.following !== null || next === undefined) return;
  page.following = next.id;
  try {
    for await (const { data } of events(await send(`/v1/documents/${next.id}/events`))) takeJob(JSON.parse(data));
  } catch {
    // the next look says what is wrong
    await new Promise((resolve) => setTimeout(resolve, WHILE_GONE_MS));
  }
  page.following = null;
  look();
}

function takeJob(job) {
  const before = page.jobs.get(job.id);
  page.jobs.set(job.id, job);
  const published = JSON.stringify(job.curve) !== JSON.stringify(before?.curve);
  const became = (name) => job[name] && !before?.[name];
  if (became("usable")) announce(`${job.name} can be asked now.`);
  if (job.status !== before?.status) announce(`${job.name}: ${job.status}.`);
  if (published || became("usable")) lookAtModels();
  show();
}

async function lookAtModels() {
  try {
    takeModels(await getJson("/v1/models"));
    show();
  } catch {
    // the next look says what is wrong
  }
}

// --- what is shown ----------------------------------------------------------------------------------------

function show() {
  const all = items();
  const chosen = all.find((one) => one.name === nameInAddress()) ?? all[0];
  showList(all, chosen);
  byId("none").hidden = all.length > 0;
  welcome.hidden = all.length > 0;
  document.body.classList.toggle("empty", all.length === 0);
  document.title = chosen ? `${chosen.name} · precis` : "precis";
  if (page.shown !== (chosen?.id ?? null)) {
    page.shown = chosen?.id ?? null;
    byId("main").replaceChildren(welcome, ...(chosen ? [viewOf(chosen).element] : []));
  }
  if (chosen) viewOf(chosen).update(chosen, ahead(chosen));
  const there = new Set(all.map((one) => one.id));
  for (const id of page.views.keys()) if (!there.has(id)) page.views.delete(id);
}

function viewOf(one) {
  if (!page.views.has(one.id)) page.views.set(one.id, new DocumentView(one, look));
  return page.views.get(one.id);
}

function showList(all, chosen) {
  const entries = all.map((one) => {
    const entry = page.entries.get(one.id) ?? makeEntry(one);
    entry.link.toggleAttribute("aria-current", false);
    if (one.id === chosen?.id) entry.link.setAttribute("aria-current", "true");
    put(entry.state, state(one, ahead(one)));
    const kind = one.job && one.job.status !== "ready" ? one.job.status : "ready";
    entry.link.dataset.state = one.askable && kind !== "failed" ? "askable" : kind;
    return [one.id, entry];
  });
  page.entries = new Map(entries);
  const lines = entries.map(([, entry]) => entry.line);
  const list = byId("list");
  const same = lines.length === list.children.length && lines.every((line, at) => list.children[at] === line);
  if (!same) list.replaceChildren(...lines);
}

function makeEntry(one) {
  const stateWords = element("span", { class: "state" });
  const link = element(
    "a",
    { href: `#${encodeURIComponent(one.name)}` },
    element("span", { class: "name" }, one.name),
    stateWords,
  );
  return { line: element("li", {}, link), link, state: stateWords };
}

function nameInAddress() {
  try {
    return decodeURIComponent(window.location.hash.slice(1));
  } catch {
    return "";
  }
}

// --- beginning --------------------------------------------------------------------------------------------

function added(job) {
  page.jobs.set(job.id, job);
  announce(`${job.filename} was taken, and will be compiled.`);
  window.location.hash = encodeURIComponent(job.name);
  show();
  follow();
}

/** Show the document that was chosen, where it is further down, as on a phone. */
function bringIntoView() {
  const main = byId("main");
  if (main.getBoundingClientRect().top > window.innerHeight / 2) main.scrollIntoView();
}

window.addEventListener("hashchange", () => {
  show();
  bringIntoView();
});
window.addEventListener("gone", () => {
  if (byId("gone").hidden) setTimeout(look); // it is not known yet
});
window.addEventListener("key-needed", (event) => {
  byId("key").hidden = false;
  byId("columns").hidden = page.shown === null; // there is nothing to do without
  put(byId("key-reason"), key.get() ? event.detail : "This server answers only to those who have an API key.");
});
byId("key").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(byId("key-value").value.trim());
  byId("key-value").value = "";
  look();
});
byId("forget").addEventListener("click", () => {
  key.forget();
  window.location.reload();
});
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && look());
window.addEventListener("keydown", (event) => {
  if (event.key === "Escape") page.views.get(page.shown)?.conversation.stop();
});
takeUploads(added);
look();
