// The key of a tenant, for servers that want one. It goes nowhere but to the server: as a header with requests, and as
// a subprotocol with the WebSocket, since browsers let a page set no headers there. It is never in an address.

// The server names the first of the two in its answer.
const PROTOCOL = "lipsync.v1";
const KEY_PROTOCOL = "lipsync-key.";

// Whether it could be one: what headers and subprotocols can carry.
export function isKey(text) {
  return /^[\w!#$%&'*+.^`|~-]{1,256}$/.test(text);
}

export function keyHeaders(key) {
  return key === undefined ? {} : { authorization: `Bearer ${key}` };
}

export function keyProtocols(key) {
  return key === undefined ? [] : [PROTOCOL, KEY_PROTOCOL + key];
}
