// The smallest page that makes an avatar speak. `?server=http://localhost:8080/&model=mira` choose another.

import { Backgrounds, Player, Session, toPcm } from "lipsync-client";

const query = new URL(location.href).searchParams;
const server = query.get("server") ?? "http://localhost:8080/";
const modelId = query.get("model") ?? "mira";

const $ = (id) => document.getElementById(id);
const say = (text) => ($("state").textContent = text);

const player = new Player($("face"), (frame) => {
  $("face").dataset.audioTimeUs = frame.audioTimeUs ?? "";
});
let context, session;

function open(sampleRateHz) {
  session?.close();
  player.restart();
  const backgrounds = new Backgrounds(modelId, { server });
  player.backgrounds = backgrounds;
  const opened = new Promise((go) => {
    session = new Session(
      { server, modelId, sampleRateHz, regionOnly: true },
      {
        message(message) {
          if (message.kind === "frame") player.push(message);
          if (message.kind !== "opened") return;
          say("Connected");
          backgrounds.prefetch(session.nextFrame).catch((error) => say(error.message));
          go();
        },
        lost: (why, retryMs) => say(retryMs === undefined ? why : `${why}; trying again`),
        silent: (isSilent) => say(isSilent ? "The server does not answer" : "Connected"),
      },
    );
  });
  return opened;
}

// Browsers give sound only after a click; the session then speaks at the rate of the sound card.
async function sound() {
  if (context) return;
  context = new AudioContext();
  player.connect(context);
  await context.resume();
  await open(context.sampleRate);
}

async function play(samples) {
  session.clear();
  player.flush();
  // A long recording does not fit the server: send what has room, and the rest as frames come back.
  for (let next = 0; next < samples.length; ) {
    next += session.push(samples.subarray(next));
    if (next < samples.length) await new Promise((go) => setTimeout(go, 500));
  }
  session.endSegment();
}

// No recording at hand: a buzz that rises and falls like speech.
function madeUp() {
  const samples = new Float32Array(3 * context.sampleRate);
  for (let n = 0; n < samples.length; n++) {
    const t = n / context.sampleRate;
    const loud = Math.max(0, Math.sin(2 * Math.PI * 3 * t));
    samples[n] = 0.3 * loud * ((((t * (110 + 20 * Math.sin(5 * t))) % 1) + 1) % 1 - 0.5);
  }
  return samples;
}

$("speak").onclick = async () => {
  await sound();
  await play(toPcm(madeUp()));
};
$("file").onchange = async ({ target }) => {
  await sound();
  const recording = await context.decodeAudioData(await target.files[0].arrayBuffer());
  await play(toPcm(recording.getChannelData(0)));
};
$("interrupt").onclick = () => {
  session.clear();
  player.flush();
};

open(48_000);
