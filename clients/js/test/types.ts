// A use of everything that the types declare; `npm run types` checks it.

import {
  Backgrounds,
  Ledger,
  Microphone,
  OutputFormat,
  Pacing,
  Player,
  Recorder,
  Session,
  VoiceGate,
  Watch,
  canRecord,
  decodeResponse,
  encodeAudio,
  encodeClear,
  encodeEndSegment,
  encodeOpen,
  isKey,
  keyHeaders,
  keyProtocols,
  fetchJson,
  fetchModels,
  microphones,
  refusal,
  toPcm,
  unavailable,
  walk,
  type Message,
} from "lipsync-client";

const canvas = document.querySelector("canvas")!;
const context = new AudioContext();
const player = new Player(canvas, (frame) => console.log(frame.audioTimeUs ?? "idle"));
const server = new URL("http://localhost:8080/");
const ledger = new Ledger(48_000, { fps: 25, maxBufferedAudioS: 60 });

function take(message: Message): void {
  switch (message.kind) {
    case "opened":
      console.log(message.fps, message.audioKind);
      break;
    case "frame":
      player.push(message);
      console.log(message.generated ? message.region.x : message.data.length);
      break;
    case "segmentEnd":
      console.log(message.nFrames);
      break;
    case "cleared":
      console.log(message.lastAudioTimeUs?.toFixed());
      break;
    case "warning":
      console.log(message.code, message.text);
      break;
    default:
      message satisfies never;
  }
}

const session = new Session(
  {
    server,
    modelId: "mira",
    sampleRateHz: context.sampleRate,
    format: OutputFormat.JPEG,
    pacing: Pacing.REALTIME,
    regionOnly: true,
    key: "k",
    WebSocket,
  },
  { message: take, lost: (why, retryMs) => console.log(why, retryMs), silent: (isSilent) => console.log(isSilent) },
);

export async function speak(): Promise<void> {
  const backgrounds = new Backgrounds("mira", { server });
  await backgrounds.prefetch(session.nextFrame);
  player.backgrounds = backgrounds;
  player.connect(context);
  player.volume = 0.5;
  player.isMuted = false;
  if (canRecord()) {
    const recorder = new Recorder(player, { maxS: 60 });
    recorder.stop();
    console.log((await recorder.ended).size, player.capture().stream.active);
  }
  for (const model of await fetchModels({ server, timeoutMs: 2000 })) console.log(model.model_id, model.state);
  const gate = new VoiceGate(context.sampleRate);
  const hear = (block: Float32Array) => {
    for (const piece of gate.push(block).samples) console.log(session.push(toPcm(piece)));
  };
  if (unavailable() === undefined) {
    const [first] = await microphones();
    const microphone = await Microphone.start(context, hear, first?.deviceId);
    console.log(microphone.deviceId);
    microphone.stop();
  }
  const segmentId: number | undefined = session.endSegment();
  console.log(segmentId, session.held, session.isOpened, session.segmentId);
  session.clear();
  player.flush();
  session.finish();
  session.close();
  console.log(await refusal({ server, key: "k" }), await fetchJson("api/stats", { server }));
  for (const index of walk(0, 200)) console.log(await backgrounds.get(index));
  console.log(isKey("k"), keyHeaders("k"), keyProtocols(undefined));
  const watch = new Watch([2000], (level) => console.log(level));
  watch.start();
  const parts = [encodeOpen({ modelId: "mira", sampleRateHz: 16_000 }), encodeAudio(1, new Int16Array(10))];
  for (const bytes of [...parts, encodeEndSegment(1), encodeClear()]) {
    const message = decodeResponse(bytes);
    if (message) console.log(ledger.receive(message), ledger.room);
  }
}
