// The messages of `StreamComposite` (proto/lipsync/v1/lipsync.proto), by hand: what a client that speaks 16-bit mono
// PCM sends and reads. Fields that it does not know are skipped, as protobuf asks for.
//
// 64-bit numbers are JavaScript numbers: exact to 2^53, which in microseconds is 285 years.

export const AUDIO_INPUT_PCM = 1;
export const PCM_ENCODING_S16LE = 1;

export const OutputFormat = Object.freeze({ JPEG: 1, PNG: 2, RGB: 3, I420: 4 });
export const Pacing = Object.freeze({ ASAP: 1, REALTIME: 2 });

const NONE = new Uint8Array();
const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

class Writer {
  #parts = [];

  #varint(value) {
    const bytes = [];
    // Not with shifts: they are 32 bits wide.
    while (value > 127) {
      bytes.push((value % 128) | 128);
      value = Math.floor(value / 128);
    }
    bytes.push(value);
    this.#parts.push(Uint8Array.from(bytes));
  }

  // proto3 leaves out what equals the default.
  number(field, value) {
    return value ? this.present(field, Number(value)) : this;
  }

  // A number of a `oneof` or an `optional`: written even when it is 0.
  present(field, value) {
    this.#varint(field * 8 + VARINT);
    this.#varint(value);
    return this;
  }

  bytes(field, value) {
    this.#varint(field * 8 + BYTES);
    this.#varint(value.length);
    this.#parts.push(value);
    return this;
  }

  text(field, value) {
    return value ? this.bytes(field, new TextEncoder().encode(value)) : this;
  }

  finish() {
    const length = this.#parts.reduce((sum, part) => sum + part.length, 0);
    const all = new Uint8Array(length);
    let at = 0;
    for (const part of this.#parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

const request = (field, message) => new Writer().bytes(field, message.finish()).finish();

// `OpenSession`, for 16-bit mono PCM.
export function encodeOpen({
  modelId,
  sampleRateHz,
  format = OutputFormat.JPEG,
  quality = 0,
  regionOnly = false,
  pacing = Pacing.REALTIME,
  idleFrames = true,
  audioEcho = true,
  startFrameIndex = 0,
  resumable = false,
  resumeToken = NONE,
}) {
  const output = new Writer().number(1, format).number(2, quality).number(3, regionOnly);
  const open = new Writer()
    .text(1, modelId)
    .number(2, AUDIO_INPUT_PCM)
    .number(3, sampleRateHz)
    .number(4, 1)
    .number(5, PCM_ENCODING_S16LE)
    .bytes(6, output.finish())
    .number(7, pacing)
    .number(8, idleFrames)
    .number(9, audioEcho)
    .number(10, startFrameIndex)
    .number(12, resumable);
  if (resumeToken.length > 0) open.bytes(13, resumeToken);
  return request(1, open);
}

// `AudioChunk`; `samples` is an Int16Array.
export function encodeAudio(segmentId, samples) {
  const bytes = new Uint8Array(samples.length * 2);
  const view = new DataView(bytes.buffer);
  samples.forEach((sample, i) => view.setInt16(i * 2, sample, true));
  return request(2, new Writer().number(1, segmentId).bytes(2, bytes));
}

// `EndSegment`.
export function encodeEndSegment(segmentId) {
  return request(3, new Writer().number(1, segmentId));
}

// `Clear`: of one segment, or of everything.
export function encodeClear(segmentId) {
  const clear = new Writer();
  return request(4, segmentId === undefined ? clear : clear.present(1, segmentId));
}

// Gives each field of a message to `take(field, value)`; a value is a number or a Uint8Array.
function fields(bytes, take) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; at < bytes.length; scale *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
      if (scale > 2 ** 63) break;
    }
    throw new RangeError("a broken number in a message");
  };
  const piece = (length) => {
    if (length > bytes.length - at) throw new RangeError("a message is cut short");
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const key = varint();
    const field = Math.floor(key / 8);
    switch (key % 8) {
      case VARINT:
        take(field, varint());
        break;
      case BYTES:
        take(field, piece(varint()));
        break;
      case FIXED64:
        piece(8);
        break;
      case FIXED32:
        piece(4);
        break;
      default:
        throw new RangeError("an unknown kind of field in a message");
    }
  }
}

// An object with `defaults`, overwritten by the fields that `names` maps.
function read(bytes, names, defaults) {
  const message = { ...defaults };
  fields(bytes, (field, value) => {
    const name = names[field];
    if (name !== undefined) message[name] = value;
  });
  return message;
}

const text = (bytes) => new TextDecoder().decode(bytes);

const decodeResumed = (bytes) => {
  const names = { 1: "segmentId", 2: "firstItem", 3: "nextAudioTimeUs", 4: "nextPtsUs", 5: "nextFrameIndex" };
  return read(bytes, names, { segmentId: 0, firstItem: 0, nextAudioTimeUs: 0, nextPtsUs: 0, nextFrameIndex: 0 });
};

const decodeOpened = (bytes) => {
  const names = {
    1: "fps", 2: "width", 3: "height", 4: "audioKind", 5: "lookAheadMs", 6: "maxBufferedAudioS", 7: "maxUnsentMs",
    30: "frameBufferMs", 31: "resumeToken", 32: "resumeContextMs", 33: "resumed",
  };
  const opened = read(bytes, names, {
    fps: 0, width: 0, height: 0, audioKind: NONE, lookAheadMs: 0, maxBufferedAudioS: 0, maxUnsentMs: 0,
    frameBufferMs: 0, resumeToken: NONE, resumeContextMs: 0, resumed: undefined,
  });
  const resumed = opened.resumed && decodeResumed(opened.resumed);
  return { kind: "opened", ...opened, audioKind: text(opened.audioKind), resumed };
};

const decodeRect = (bytes) =>
  read(bytes, { 1: "x", 2: "y", 3: "width", 4: "height" }, { x: 0, y: 0, width: 0, height: 0 });

const decodeFrame = (bytes) => {
  const names = {
    1: "frameIndex", 2: "backgroundIndex", 3: "ptsUs", 4: "audioTimeUs", 5: "segmentId", 6: "format", 7: "width",
    8: "height", 9: "region", 10: "generated", 11: "data", 30: "audio", 31: "resumeToken",
  };
  const frame = read(bytes, names, {
    frameIndex: 0, backgroundIndex: 0, ptsUs: 0, audioTimeUs: undefined, segmentId: 0, format: 0, width: 0, height: 0,
    region: NONE, generated: 0, data: NONE, audio: undefined, resumeToken: NONE,
  });
  return { kind: "frame", ...frame, region: decodeRect(frame.region), generated: frame.generated !== 0 };
};

const decoders = {
  1: decodeOpened,
  2: decodeFrame,
  3: (bytes) => ({
    kind: "segmentEnd",
    ...read(bytes, { 1: "segmentId", 2: "nFrames" }, { segmentId: 0, nFrames: 0 }),
  }),
  4: (bytes) => ({
    kind: "cleared",
    ...read(
      bytes,
      { 1: "segmentId", 2: "lastPtsUs", 3: "lastAudioTimeUs" },
      { segmentId: undefined, lastPtsUs: undefined, lastAudioTimeUs: undefined },
    ),
  }),
  5: (bytes) => {
    const warning = read(bytes, { 1: "code", 2: "text" }, { code: NONE, text: NONE });
    return { kind: "warning", code: text(warning.code), text: text(warning.text) };
  },
};

// A `StreamCompositeResponse`, as `{ kind, ...fields }`; `undefined` for a kind of a later version.
export function decodeResponse(bytes) {
  let message;
  fields(bytes, (field, value) => {
    if (decoders[field] && typeof value !== "number") message = decoders[field](value);
  });
  return message;
}
