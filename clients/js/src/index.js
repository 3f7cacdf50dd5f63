// lipsync-client: live sessions with a lipsync-server, in browsers and Node.

export { Backgrounds, walk } from "./backgrounds.js";
export { isKey, keyHeaders, keyProtocols } from "./key.js";
export { Ledger } from "./ledger.js";
export { Microphone, microphones, unavailable } from "./microphone.js";
export { Player } from "./player.js";
export {
  OutputFormat,
  Pacing,
  decodeResponse,
  encodeAudio,
  encodeClear,
  encodeEndSegment,
  encodeOpen,
} from "./protocol.js";
export { Recorder, canRecord } from "./recorder.js";
export { fetchJson, fetchModels, refusal } from "./refusal.js";
export { Session } from "./session.js";
export { VoiceGate, toPcm } from "./voice.js";
export { Watch } from "./watch.js";
