// What to tell a person where something between the page and the server answered instead of it: browsers say of a
// refused WebSocket only that it did not open, and proxies answer with pages of their own.

import { requestUrl } from "./address.js";
import { keyHeaders } from "./key.js";

// What statuses mean that proxies give.
const MEANINGS = {
  0: "a redirect, perhaps to a login",
  401: "it wants a login",
  403: "it does not let this page in",
  404: "it does not know this path",
  413: "request too large",
  426: "it does not pass WebSockets on",
  429: "too many requests",
  500: "it failed",
  502: "it does not reach the server",
  503: "it has no server to pass this on to",
  504: "the server did not answer it in time",
};
// The server's own refusals: how their text begins, and what to tell people.
const OURS = {
  401: { begins: "a valid key ", words: "This server wants a key" },
  403: { begins: "only a tenant ", words: "Only admins see the server's figures" },
};
// So long a refusal may take to be explained.
const PATIENCE_MS = 5000;

function inWords(status) {
  const meaning = MEANINGS[status];
  return `A proxy in front of the server answered ${status || "with"}${meaning ? ` (${meaning})` : ""}`;
}

const isText = (answer) => answer.headers.get("content-type")?.startsWith("text/plain");

// Whether the page comes from somewhere else than the server.
function isForeign(server) {
  const page = globalThis.location?.origin;
  return server !== undefined && page !== undefined && requestUrl("", server).origin !== page;
}

// The JSON at `path` of the server. Throws an error with words for people, also after `timeoutMs` without an answer.
// The error has `needsKey` where the server wants another key.
export async function fetchJson(path, { server, key, timeoutMs } = {}) {
  let answer;
  try {
    const signal = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
    answer = await fetch(requestUrl(path, server), { cache: "no-store", headers: keyHeaders(key), signal });
  } catch (error) {
    if (error.name === "TimeoutError") throw new Error(`The server has not answered for ${timeoutMs / 1000} s`);
    throw new Error(unreachable(server) ?? "The server does not answer");
  }
  const ours = OURS[answer.status];
  if (ours && isText(answer) && (await answer.text()).startsWith(ours.begins)) {
    throw Object.assign(new Error(ours.words), { needsKey: answer.status === 401 });
  }
  if (!answer.ok) throw new Error(inWords(answer.status));
  const type = answer.headers.get("content-type") ?? "something unnamed";
  if (!type.startsWith("application/json")) {
    throw new Error(`A proxy in front of the server answered with ${type} instead of passing ${path} on`);
  }
  return answer.json();
}

// The configured models, as `GET /api/models` lists them.
export function fetchModels(options) {
  return fetchJson("api/models", options);
}

// A page may not read a foreign server's refusal: it looks like a server that is not there.
function unreachable(server) {
  if (!isForeign(server)) return undefined;
  return (
    `${requestUrl("", server).origin} does not answer, or does not let this page in: ` +
    `its operations.allowed_origins must have "${location.origin}"`
  );
}

// Why the WebSocket `session` was refused, as far as a request of the same path and origin tells; undefined where
// nobody answers. The server answers that request, too: then it is the WebSocket that is not passed on.
export async function refusal({ server, key } = {}) {
  let answer, text;
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    // A POST has the page's Origin with it, for which the server may refuse it.
    const headers = keyHeaders(key);
    answer = await fetch(requestUrl("session", server), { method: "POST", redirect: "manual", cache: "no-store", headers, signal });
    text = isText(answer) ? (await answer.text()).trim() : "";
  } catch {
    return unreachable(server);
  }
  if (text.startsWith("sessions ")) {
    if (answer.status === 403) return `The server refuses this page: ${text}`;
    return "The server answers, but its WebSocket does not open: a proxy in front of it may not pass WebSockets on";
  }
  return inWords(answer.status);
}
