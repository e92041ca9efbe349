// Talking to the server.

const KEY = "precis-api-key";

/** The server has refused something, and says why. */
export class RefusedError extends Error {
  constructor(status, detail, retryAfter) {
    super(detail.message);
    this.status = status;
    this.code = detail.code;
    this.retryAfter = retryAfter;
  }
}

/** Nobody answers. */
export class GoneError extends Error {
  constructor(message = "The server cannot be reached. Is it still running?") {
    super(message);
  }
}

/** Whether an answer was stopped from here. */
export function wasStopped(error) {
  return error.name === "AbortError";
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** Send a request; give the response if all is well. */
export async function send(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  let response;
  try {
    response = await fetch(path, { cache: "no-store", ...options, headers });
  } catch (error) {
    if (wasStopped(error)) throw error;
    window.dispatchEvent(new CustomEvent("gone"));
    throw new GoneError();
  }
  if (response.ok) return response;
  const error = await refusal(response);
  if (error.status === 401) window.dispatchEvent(new CustomEvent("key-needed", { detail: error.message }));
  throw error;
}

async function refusal(response) {
  const closing = response.status === 503 ? " It is starting, shutting down, or has too much to do." : "";
  let detail = { message: `The server answered with status ${response.status}.${closing}`, code: null };
  try {
    detail = (await response.json()).error ?? detail;
  } catch {
    // whatever stands between here and the server has answered in its own way
  }
  return new RefusedError(response.status, detail, response.headers.get("Retry-After"));
}

export async function getJson(path) {
  return (await send(path)).json();
}

/** Send a document; its options are fields that may be empty. */
export async function upload(file, fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
  form.append("file", file);
  try {
    return await (await send("/v1/documents", { method: "POST", body: form })).json();
  } catch (error) {
    if (error instanceof GoneError && (await isThere())) {
      throw new GoneError("The server broke off while it was being sent. It may be larger than is allowed here.");
    }
    throw error;
  }
}

async function isThere() {
  try {
    await send("/health");
    return true;
  } catch (error) {
    return !(error instanceof GoneError);
  }
}

/**
 * Ask, and give what comes: `{ text }`, `{ finish }` (why it ended) and `{ about }` (what the server tells
 * of the whole answer). `precis` is what this server can do beyond OpenAI's API.
 */
export async function* ask(model, messages, precis, signal) {
  const body = { model, messages, stream: true, precis };
  const response = await send("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  for await (const { data } of events(response)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new RefusedError(response.status, chunk.error, null);
    for (const choice of chunk.choices) {
      if (choice.delta.content) yield { text: choice.delta.content };
      if (choice.finish_reason) yield { finish: choice.finish_reason };
    }
    if (chunk.precis) yield { about: chunk.precis };
  }
  throw new GoneError("The connection broke off before the answer was whole.");
}

/** Read server-sent events. A browser's EventSource cannot send an API key. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r/);
      rest = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        if (line !== "" || data.length === 0) continue;
        yield { data: data.join("\n") };
        data = [];
      }
    }
  } catch (error) {
    throw wasStopped(error) ? error : new GoneError("The connection to the server broke off.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
