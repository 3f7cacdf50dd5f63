// Sessions over the WebSocket, one after the other, until killed: node --experimental-websocket web.mjs PAGE SPEECH.
// It reads the key of each session from standard input, and prints one line of JSON for each: the SHA-256 of the
// pictures of a sentence, or why it failed.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { Pacing, Session } from "../../clients/js/src/index.js";

const [server, speech] = process.argv.slice(2);
const file = readFileSync(speech);
const samples = new Int16Array(file.buffer.slice(file.byteOffset, file.byteOffset + file.length - (file.length % 2)));

function say(key) {
  return new Promise((resolve) => {
    const digest = createHash("sha256");
    let frames = 0;
    const options = { server, key, modelId: "mira", sampleRateHz: 16_000, pacing: Pacing.ASAP, idleFrames: false, audioEcho: false };
    const session = new Session(options, {
      message(message) {
        if (message.kind === "opened") {
          session.push(samples);
          session.finish();
        }
        if (message.kind !== "frame") return;
        digest.update(message.data);
        frames += 1;
      },
      lost(why) {
        session.close();
        resolve({ error: why });
      },
      ended() {
        session.close();
        resolve({ digest: digest.digest("hex"), frames });
      },
    });
  });
}

for await (const key of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await say(key)));
}
