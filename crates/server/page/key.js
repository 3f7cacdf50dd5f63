// The key of a tenant, for servers that want one. It stays in this tab, and goes nowhere but to this server: as a header
// with requests, and as a subprotocol with the WebSocket, never in an address.

const NAME = "lipsync-key";
// The server names the first of the two in its answer.
const PROTOCOL = "lipsync.v1";
const KEY_PROTOCOL = "lipsync-key.";

// Without storage (a browser may forbid it) the key lasts until the page is left.
let held;

function stored() {
  try {
    return sessionStorage.getItem(NAME) ?? undefined;
  } catch {
    return undefined;
  }
}

export function currentKey() {
  return held ?? stored();
}

// Whether it could be one: what headers and subprotocols can carry.
export function takeKey(text) {
  const key = text.trim();
  if (!/^[\w!#$%&'*+.^`|~-]{1,256}$/.test(key)) return false;
  held = key;
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // It is held all the same.
  }
  return true;
}

export function keyHeaders() {
  const key = currentKey();
  return key === undefined ? {} : { authorization: `Bearer ${key}` };
}

export function keyProtocols() {
  const key = currentKey();
  return key === undefined ? [] : [PROTOCOL, KEY_PROTOCOL + key];
}
