// The mark of a recording. Heads are as Chromium and Firefox write them: a segment without a length.

import assert from "node:assert/strict";
import { test } from "node:test";

import { marked } from "../src/mark.js";

const MARK = "trainedAlgorithmicMedia";
const hex = (text) => Uint8Array.from(text.replaceAll(" ", "").match(/../g).map((byte) => Number.parseInt(byte, 16)));
const EBML = "1a45dfa3 84 42868101", SEGMENT = "18538067 01ffffffffffffff", KNOWN = "18538067 8a";
const INFO = "1549a966 85 aabbccddee", TRACKS = "1654ae6b 4001 00", CLUSTER = "1f43b675 01ffffffffffffff a301";

async function places(head, type = "video/webm") {
  const bytes = hex(head);
  const file = await marked(new Blob([bytes], { type }));
  assert.equal(file.type, type);
  const found = new Uint8Array(await file.arrayBuffer());
  const n = found.length - bytes.length;
  const at = bytes.findIndex((byte, place) => byte !== found[place]);
  const begins = at < 0 ? bytes.length : at;
  return { begins, n, found, mark: new TextDecoder("latin1").decode(found.slice(begins, begins + n)) };
}

test("in WebM it is a tag before the first pictures", async () => {
  const { found, mark, n } = await places(`${EBML} ${SEGMENT} ${INFO} ${TRACKS} ${CLUSTER}`);
  const before = hex(`${EBML} ${SEGMENT} ${INFO} ${TRACKS}`).length;
  // Both begin with the same byte: the comparison finds the second.
  assert.deepEqual(found.slice(before, before + 4), hex("1254c367"));
  assert.equal(2 + 4 + (((found[before + 4] & 0x3f) << 8) | found[before + 5]), n, "its length is right");
  assert.deepEqual(found.slice(before + n), hex(CLUSTER));
  assert.ok(mark.includes(MARK) && mark.includes("DIGITAL_SOURCE_TYPE"));
});

test("a file that is not so gets it at its end", async () => {
  const others = [`${EBML} ${KNOWN} ${INFO}`, `${EBML} ${SEGMENT} 114d9b74 81 00 ${CLUSTER}`, "00 00", "7fff", EBML, "1a45"];
  for (const head of others) {
    const { begins, mark } = await places(head);
    assert.equal(begins, hex(head).length, head);
    assert.ok(mark.includes(MARK), head);
  }
  assert.ok((await (await marked(new Blob([], { type: "video/webm" }))).text()).includes(MARK));
});

test("in MP4 it is a box at the end", async () => {
  const { begins, n, found, mark } = await places("00000008 66726565", "video/mp4");
  assert.equal(begins, 8);
  assert.equal(new DataView(found.buffer).getUint32(8), n);
  assert.ok(mark.slice(4).startsWith("uuid") && mark.includes(MARK));
});
