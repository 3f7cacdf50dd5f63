// Where the server is, as people write it: http or https, or ws or wss, which mean the same hosts and ports.

const SCHEMES = new Map([
  ["http:", ["http:", "ws:"]],
  ["https:", ["https:", "wss:"]],
  ["ws:", ["http:", "ws:"]],
  // In clear it would be another promise than the one that was made.
  ["wss:", ["https:", "wss:"]],
]);

function at(path, base, isSocket) {
  let url;
  try {
    url = new URL(path, base);
  } catch {
    url = undefined;
  }
  const scheme = SCHEMES.get(url?.protocol)?.[isSocket ? 1 : 0];
  if (scheme === undefined) {
    throw new Error(`server: expected an address such as https://faces.example or http://localhost:8080, found "${base}"`);
  }
  url.protocol = scheme;
  return url;
}

// `path` at the server, for a request: relative to the page where `server` is undefined. Throws what is no address.
export function requestUrl(path, server) {
  return server === undefined ? path : at(path, server, false);
}

// The same for a WebSocket.
export function socketUrl(path, server) {
  return at(path, server ?? location.href, true);
}
