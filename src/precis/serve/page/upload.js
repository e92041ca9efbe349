// Taking documents in: dropped anywhere on the page, or chosen.

import { RefusedError, key, upload } from "./api.js";
import { announce, byId, element, put } from "./elements.js";

/** Let documents be added; `added` hears of each that the server has taken. */
export function takeUploads(added) {
  const input = byId("file");
  byId("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", async () => {
    const files = [...input.files];
    await sendAll(files, added);
    input.value = "";
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
    for (const name of folders) refuse(name, "This is a folder; drop the files in it.");
    sendAll([...event.dataTransfer.files].filter((file) => !folders.has(file.name)), added);
  });
}

async function sendAll(files, added) {
  byId("refused").replaceChildren();
  for (const file of files) {
    put(byId("sending"), `Sending ${file.name} …`);
    try {
      added(await upload(file, options()));
    } catch (error) {
      refuse(file.name, reason(error));
    }
  }
  put(byId("sending"), "");
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
