// In Node (22 or newer, or 20 with --experimental-websocket): says a WAV file and counts the frames.
//
//     node clients/js/example/node.mjs assets/speech/welcome.wav [http://localhost:8080/] [mira]
//
// Only 16-bit mono WAV files with a plain header: this is about sessions.

import { readFile } from "node:fs/promises";

import { Pacing, Session } from "lipsync-client";

const [file, server = "http://localhost:8080/", modelId = "mira"] = process.argv.slice(2);
const wav = await readFile(file);
const isPlain =
  wav.length > 46 &&
  wav.toString("latin1", 0, 4) === "RIFF" &&
  wav.readUInt32LE(20) === 0x10001 && // PCM, mono
  wav.readUInt16LE(34) === 16 &&
  wav.toString("latin1", 36, 40) === "data";
if (!isPlain) throw new Error(`${file}: this example takes 16-bit mono WAV files with a plain header of 44 bytes`);
const sampleRateHz = wav.readUInt32LE(24);
// A length that was never filled in is larger than the file; what follows the samples is none of them.
const nSamples = Math.min(wav.readUInt32LE(40) || Infinity, wav.length - 44) >> 1;
const samples = new Int16Array(wav.buffer.slice(wav.byteOffset + 44, wav.byteOffset + 44 + 2 * nSamples));

const frames = { generated: 0, silent: 0, bytes: 0 };
const began = performance.now();
const session = new Session(
  // As fast as the server can; nobody watches.
  { server, modelId, sampleRateHz, pacing: Pacing.ASAP, idleFrames: false, audioEcho: false, regionOnly: true },
  {
    message(message) {
      if (message.kind === "opened") {
        // What has no room would have to wait for frames; a sentence fits.
        if (session.push(samples) < samples.length) throw new Error("the file is too long for this example");
        session.finish();
      }
      if (message.kind !== "frame") return;
      frames[message.generated ? "generated" : "silent"] += 1;
      frames.bytes += message.data.length;
    },
    ended() {
      const ms = Math.round(performance.now() - began);
      console.log(`${frames.generated} frames, ${frames.silent} silent, ${frames.bytes} bytes, ${ms} ms`);
    },
    lost(why) {
      console.error(why);
      process.exit(1);
    },
  },
);
