// Taking documents in: dropped anywhere on the page, or chosen.

import { RefusedError, key, upload } from "./api.js";
import { announce, byId, element, put } from "./elements.js";

/** Let documents be added; `added` hears of each that the server has taken. */
export function takeUploads(added) {
  const input = byId("file");
  byId("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    sendAll([...input.files], added);
    input.value = ""; // so that the same file can be chosen again
  });
  byId("options").addEventListener("submit", (event) => event.preventDefault());
  takeDrops(added);
}

function takeDrops(added) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  window.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) document.body.classList.remove("dropping");
  });
  window.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.remove("dropping");
    const folders = new Set(
      [...event.dataTransfer.items]
        .map((item) => item.webkitGetAsEntry?.())
        .filter((entry) => entry?.isDirectory)
        .map((entry) => entry.name),
    );
    const files = [...event.dataTransfer.files].filter((file) => !folders.has(file.name));
    sendAll(files, added, folders);
  });
}

let before = Promise.resolve();

/** Send files, one after the other, and after those that are still being sent. */
function sendAll(files, added, folders = []) {
  before = before.then(() => sendEach(files, added, folders));
}

async function sendEach(files, added, folders) {
  byId("refused").replaceChildren();
  for (const name of folders) refuse(name, "It is a folder; drop the files that are in it.");
  let taken = false;
  for (const file of files) {
    put(byId("sending"), `Sending ${file.name} …`);
    try {
      added(await upload(file, options()));
      taken = true;
    } catch (error) {
      refuse(file.name, reason(error));
    }
  }
  put(byId("sending"), "");
  if (taken) byId("questions").value = ""; // they are about this document, not the next
}

function options() {
  return Object.fromEntries(["ratio", "minutes", "questions"].map((name) => [name, byId(name).value.trim()]));
}

function reason(error) {
  if (!(error instanceof RefusedError)) return error.message;
  if (error.status === 401) return key.get() ? "The API key is not known." : "An API key is needed first.";
  return error.message;
}

function refuse(name, why) {
  const shown = why.startsWith(`${name}: `) ? why.slice(name.length + 2) : why;
  const line = element("li", { role: "alert" }, element("b", {}, name), ` was not taken. ${capital(shown)}`);
  const close = element("button", { type: "button", class: "plain", click: () => line.remove() }, "Dismiss");
  line.append(" ", close);
  byId("refused").append(line);
  announce(`${name} was not taken.`);
}

function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
