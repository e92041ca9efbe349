// Numbers and states in words.

/** The parts of a compile as they are shown, with the server's names of what belongs to each. */
export const PARTS = [
  { title: "Asking", stages: ["asking"] },
  { title: "Answering", stages: ["teaching"] },
  { title: "Condensing", stages: ["scoring", "fitting"] },
  { title: "Training", stages: ["training"] },
  { title: "Calibrating", stages: ["calibrating"] },
];

const DOING = {
  asking: "The model writes questions about every part of the document.",
  teaching: "It answers the questions with the whole document before it. These are the answers to learn.",
  scoring: "What the answers depend on most is picked out of all that was read.",
  fitting: "What was picked is fitted, so that it says what the whole document says.",
  training: "The soft prompt learns to give the same answers without the document.",
  calibrating: "It measures, on questions it has not learnt, how far its own certainty can be trusted.",
};

export function doing(stage) {
  return stage === null ? "Starting." : (DOING[stage] ?? `${capital(stage)}.`);
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function partOf(stage) {
  return PARTS.findIndex((part) => part.stages.includes(stage));
}

const WHOLE = new Intl.NumberFormat("en");

export function count(value) {
  return WHOLE.format(value);
}

export function seconds(value) {
  if (value < 10) return `${value.toFixed(2)} s`;
  if (value < 100) return `${value.toFixed(0)} s`;
  return duration(value);
}

/** A time that nobody needs to know exactly. */
export function duration(value) {
  if (value < 1) return "less than a second";
  if (value < 90) return `${Math.round(value)} s`;
  const minutes = Math.round(value / 60);
  if (minutes < 90) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(bytes < 1e4 ? 1 : 0)} kB`;
  if (bytes < 1e9) return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
  return `${(bytes / 1e9).toFixed(1)} GB`;
}

export function times(value) {
  return value < 10 ? value.toFixed(1).replace(/\.0$/, "") : count(Math.round(value));
}

/** Say how likely it is that an answer is right, and stands in the document. */
export function confidence(value) {
  if (value === null) return "not calibrated";
  const word = value >= 0.85 ? "high" : value >= 0.65 ? "good" : value >= 0.45 ? "fair" : "low";
  return `${word}, ${Math.round(value * 100)} %`;
}

/** Say in a few words how a document is, for the list. */
export function state(item, ahead) {
  const job = item.job;
  if (job === null || job.status === "ready") return item.askable ? "Ready" : "Its file is gone";
  const askable = item.askable ? ", can be asked" : "";
  if (job.status === "queued") return `Waiting${ahead ? `, ${ahead} before it` : ""}${askable}`;
  if (job.status === "running") return `Compiling${askable}`;
  return `${job.status === "failed" ? "Failed" : "Cancelled"}${askable}`;
}
