// The key of a tenant, for servers that want one. It stays in this tab.

const NAME = "lipsync-key";

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

// Keeps it, if it could be one: `isKey` of the client's modules says that.
export function takeKey(text, isKey) {
  const key = text.trim();
  if (!isKey(key)) return false;
  held = key;
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // It is held all the same.
  }
  return true;
}
