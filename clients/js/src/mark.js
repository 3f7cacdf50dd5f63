// Marks a recorded file as made by a trained network, as the server marks pictures: IPTC's digital source type
// (https://cv.iptc.org/newscodes/digitalsourcetype/). MP4 gets an XMP packet in a box of its own, WebM a tag.
//
// Sources: Adobe XMP specification, part 3 (MPEG-4); RFC 9559 (Matroska), 5.1.8 and RFC 8794 (EBML).

const SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";
const XMP =
  '<?xpacket begin="\uFEFF" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">' +
  '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" ' +
  `xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" Iptc4xmpExt:DigitalSourceType="${SOURCE_TYPE}"/>` +
  '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>';
// The box whose content is XMP.
const XMP_UUID = [0xbe, 0x7a, 0xcf, 0xcb, 0x97, 0xa9, 0x42, 0xe8, 0x9c, 0x71, 0x99, 0x94, 0x91, 0xe3, 0xaf, 0xac];

const [EBML, SEGMENT, SEEK_HEAD, CLUSTER] = [0x1a45dfa3, 0x18538067, 0x114d9b74, 0x1f43b675];
const [TAGS, TAG, TARGETS, SIMPLE_TAG, TAG_NAME, TAG_STRING] = [0x1254c367, 0x7373, 0x63c0, 0x67c8, 0x45a3, 0x4487];
// What comes before the first pictures is far smaller.
const LONGEST_HEAD = 65_536;

// The file with the mark. What is not known of it goes behind it, where players do not look for pictures.
export async function marked(file) {
  const { type } = file;
  if (type.startsWith("video/mp4")) return new Blob([file, xmpBox()], { type });
  const at = beforePictures(new Uint8Array(await file.slice(0, LONGEST_HEAD).arrayBuffer())) ?? file.size;
  return new Blob([file.slice(0, at), tags(), file.slice(at)], { type });
}

function xmpBox() {
  const text = new TextEncoder().encode(XMP);
  const box = new Uint8Array(24 + text.length);
  new DataView(box.buffer).setUint32(0, box.length);
  box.set([..."uuid"].map((letter) => letter.charCodeAt(0)), 4);
  box.set(XMP_UUID, 8);
  box.set(text, 24);
  return box;
}

function tags() {
  const tag = (name, text) => element(SIMPLE_TAG, element(TAG_NAME, name), element(TAG_STRING, text));
  const both = [tag("DIGITAL_SOURCE_TYPE", SOURCE_TYPE), tag("COMMENT", "The face was made by a trained algorithm.")];
  return element(TAGS, element(TAG, element(TARGETS), ...both));
}

// An element of EBML with these parts, each text or bytes.
function element(id, ...parts) {
  const bytes = parts.map((part) => (typeof part === "string" ? new TextEncoder().encode(part) : part));
  const length = bytes.reduce((sum, part) => sum + part.length, 0);
  const idBytes = [24, 16, 8, 0].map((shift) => (id >>> shift) & 0xff).filter((_, n) => id >>> (24 - 8 * n));
  // Two bytes of length reach to 16,382.
  return Uint8Array.from([...idBytes, 0x40 | (length >> 8), length & 0xff, ...bytes.flatMap((part) => [...part])]);
}

// Where the first pictures begin in WebM that a browser wrote as it went, where more may be put in: its segment has no
// known length, and no index that counts bytes. `undefined` of other files.
function beforePictures(head) {
  let at = 0;
  while (at < head.length) {
    const begins = at;
    const id = number(head, at, true);
    if (!id) return undefined;
    at += id.width;
    const length = number(head, at, false);
    if (!length) return undefined;
    at += length.width;
    if (id.value === CLUSTER) return begins;
    if (id.value === SEEK_HEAD) return undefined;
    if (id.value === SEGMENT) {
      if (!length.isUnknown) return undefined;
    } else if (begins === 0 && id.value !== EBML) {
      return undefined;
    } else {
      at += length.value;
    }
  }
  return undefined;
}

// A number of EBML; that of an id keeps the bit that gives its width.
function number(bytes, at, isId) {
  const width = Math.clz32(bytes[at] ?? 0) - 23;
  if (width > 8 || at + width > bytes.length) return undefined;
  let value = isId ? bytes[at] : bytes[at] & (0xff >> width);
  let isUnknown = value === 0xff >> width;
  for (let n = 1; n < width; n++) {
    value = value * 256 + bytes[at + n];
    isUnknown &&= bytes[at + n] === 0xff;
  }
  return { width, value, isUnknown };
}
