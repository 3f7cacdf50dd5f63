// Types of lipsync-client. Times end in their unit: Us microseconds, Ms milliseconds, S seconds.

/** How frames are coded. `Player` shows JPEG. */
export declare const OutputFormat: { readonly JPEG: 1; readonly PNG: 2; readonly RGB: 3; readonly I420: 4 };
/** When frames leave the server: as soon as they are made, or one frame duration apart. */
export declare const Pacing: { readonly ASAP: 1; readonly REALTIME: 2 };

/** What `encodeOpen` says. Audio is 16-bit mono PCM. */
export interface OpenOptions {
  /** A configured model. */
  modelId: string;
  /** 4,000 to 192,000. */
  sampleRateHz: number;
  /** Default `OutputFormat.JPEG`. */
  format?: 1 | 2 | 3 | 4;
  /** JPEG quality, 1 to 100; 0, the default, is the server's. */
  quality?: number;
  /** Only the face's rectangle: it belongs at `region` on the background `backgroundIndex`. Default false. */
  regionOnly?: boolean;
  /** Default `Pacing.REALTIME`. */
  pacing?: 1 | 2;
  /** The face at rest while nobody speaks. Default true. */
  idleFrames?: boolean;
  /** Each frame brings its slice of the audio. Default true. */
  audioEcho?: boolean;
  /** Place of the first frame on the avatar's walk. Default 0. */
  startFrameIndex?: number;
  /** Frames bring tokens with which the session can be resumed. Default false; `Session` asks for them. */
  resumable?: boolean;
  /** Goes on with a session that was cut: the last token that came. */
  resumeToken?: Uint8Array;
}

export interface Opened {
  kind: "opened";
  fps: number;
  /** Size of whole frames, pixels. */
  width: number;
  height: number;
  /** `ave`, `hubert`, `wenet` or `mel`. */
  audioKind: string;
  /** Audio beyond a frame's time that must arrive before the frame can be made. */
  lookAheadMs: number;
  /** Audio that may wait in the server; `Session` keeps to it. */
  maxBufferedAudioS: number;
  /** Finished frames that may wait in the server, of video. */
  maxUnsentMs: number;
  /** Delay of a segment's first frame after it is made, with `Pacing.REALTIME`. */
  frameBufferMs: number;
  /** For `OpenOptions.resumeToken`, until a frame brings a later one; empty unless asked for. */
  resumeToken: Uint8Array;
  /** Audio before the next frame of a segment that must be sent again to resume there, at most. */
  resumeContextMs: number;
  /** Where a session goes on that was cut; undefined where it begins. */
  resumed: Resumed | undefined;
}

/** Where a session goes on that was cut. */
export interface Resumed {
  /** The segment in which it was; 0 = none. */
  segmentId: number;
  /** The first sample of that segment to send again. */
  firstItem: number;
  nextAudioTimeUs: number;
  nextPtsUs: number;
  nextFrameIndex: number;
}

/** Pixels of the background frame. */
export interface Rect {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Frame {
  kind: "frame";
  /** Place on the avatar's walk. */
  frameIndex: number;
  backgroundIndex: number;
  /** Presentation time, one frame duration apart. */
  ptsUs: number;
  /** Offset in the segment: the mouth is in step with it. Undefined for idle frames. */
  audioTimeUs: number | undefined;
  /** 0 for idle frames. */
  segmentId: number;
  format: number;
  /** Size of the picture in `data`. */
  width: number;
  height: number;
  /** The face. */
  region: Rect;
  /** False: the background alone, without the network. */
  generated: boolean;
  /** The coded picture. */
  data: Uint8Array;
  /** With `audioEcho`: the 16-bit samples under the frame, little-endian. */
  audio: Uint8Array | undefined;
  /** For `OpenOptions.resumeToken`: the session after this frame. Empty unless asked for. */
  resumeToken: Uint8Array;
}

/** All frames of the segment were sent. */
export interface SegmentEnd {
  kind: "segmentEnd";
  segmentId: number;
  nFrames: number;
}

/** No frame of what was interrupted follows. */
export interface Cleared {
  kind: "cleared";
  /** Undefined: everything. */
  segmentId: number | undefined;
  /** Of the last frame that was sent; undefined if there was none. */
  lastPtsUs: number | undefined;
  lastAudioTimeUs: number | undefined;
}

/** Something that you should know, and no error. The proto file lists the codes. */
export interface Warning {
  kind: "warning";
  code: string;
  text: string;
}

export type Message = Opened | Frame | SegmentEnd | Cleared | Warning;

export interface SessionOptions extends OpenOptions {
  /** Address of the operations port, for example `http://localhost:8080/`. Default: the page's own. */
  server?: string | URL;
  /** The key of a tenant, for servers that want one. */
  key?: string;
  /** How long to try to go on in the middle of what is said before the session counts as lost. Default 2,000; 0: not. */
  resumeWithinMs?: number;
  /** Default: the platform's. Node has one since version 22. */
  WebSocket?: new (url: URL, protocols?: string[]) => WebSocket;
}

export interface SessionHandlers {
  /** Everything that comes, except what was on its way while its segment was interrupted. */
  message(message: Message): void;
  /** A session that was cut goes on behind the last frame: nothing is missing, and nothing comes twice. */
  resumed?(opened: Opened): void;
  /**
   * The session is gone. It comes back by itself after `retryMs`; never if that is undefined. `needsKey`: the server
   * wants another key.
   */
  lost(reason: string, retryMs: number | undefined, needsKey?: boolean): void;
  /** Nothing was heard for 2 s although something should have been; with false, something is heard again. */
  silent?(isSilent: boolean): void;
  /** The server has sent everything after `finish`. */
  ended?(): void;
}

/**
 * One `StreamComposite` over the WebSocket `/session`. A session that is cut goes on in the middle of what is said, or
 * else comes back at the same place of the walk.
 */
export declare class Session {
  /** Connects. Throws where there is no WebSocket. */
  constructor(options: SessionOptions, on: SessionHandlers);
  /** Whether audio can be sent. */
  get isOpened(): boolean;
  /** Place on the walk of the frame that comes next. */
  get nextFrame(): number;
  /** The open segment; undefined when none is open. */
  get segmentId(): number | undefined;
  /** Samples with the server: sent, and not covered by a frame yet. */
  get held(): number;
  /** Sends what the server has room for, and gives how many samples that was. Begins a segment where none is open. */
  push(samples: Int16Array): number;
  /** There is no more audio for the open segment. Gives its id. */
  endSegment(): number | undefined;
  /** Interrupts everything that was sent. */
  clear(): void;
  /** Nothing more is said; what was said is still shown. */
  finish(): void;
  /** Ends it at once. */
  close(): void;
}

/** Draws frames and plays their sound in step. For browsers. */
export declare class Player {
  /** `onShown` is called for each frame as it is drawn. */
  constructor(canvas: HTMLCanvasElement, onShown?: (frame: Frame) => void);
  /** Plays sound through this context, at whose rate the session must speak. Browsers want a click first. */
  connect(context: AudioContext): void;
  set isMuted(muted: boolean);
  /** 0 to 1. */
  set volume(volume: number);
  /** Needed for `regionOnly` frames. */
  set backgrounds(backgrounds: Backgrounds | undefined);
  /** What is shown and played, for a `MediaRecorder`: the voice at its full loudness. `release` ends it. */
  capture(): { stream: MediaStream; release(): void };
  /** A new session, whose presentation times begin again. */
  restart(): void;
  /** Drops what is not seen or heard yet: call it with `Session.clear`. */
  flush(): void;
  /** Takes a frame. */
  push(frame: Frame): void;
}

/** Whether this browser can record. */
export declare function canRecord(): boolean;
/** Records what a `Player` shows and plays. For browsers. */
export declare class Recorder {
  /**
   * Begins. It stops by itself after `maxS`, by default 300. The file says of itself that a trained network made it, unless
   * `mark` is false. Throws where the browser cannot record.
   */
  constructor(player: Player, options?: { maxS?: number; mark?: boolean });
  /** The file, MP4 or WebM, once the recording has stopped. */
  get ended(): Promise<Blob>;
  stop(): void;
}

/** The background frames of a model, fetched from `/api/models/ID/backgrounds/N` and kept, up to 96 MiB. */
export declare class Backgrounds {
  constructor(modelId: string, options?: { server?: string | URL; key?: string });
  /** A JPEG. Rejects where the server does not give it. */
  get(index: number): Promise<Blob>;
  /** Fetches them in the order of a walk. */
  prefetch(start: number): Promise<void>;
  /** Fetches no more ahead. */
  stop(): void;
}

/** Each of `nBackgrounds` frames once, in the order in which a walk from `start` comes to them. */
export declare function walk(start: number, nBackgrounds: number): Generator<number, void, undefined>;

/** Why the microphone cannot be used; undefined if it can. */
export declare function unavailable(): string | undefined;
/** The microphones that there are. Labels are empty until the microphone was allowed. */
export declare function microphones(): Promise<{ deviceId: string; label: string }[]>;
/** The microphone, as blocks of 20 ms at the context's rate. */
export declare class Microphone {
  private constructor();
  static start(context: AudioContext, onBlock: (block: Float32Array) => void, deviceId?: string): Promise<Microphone>;
  /** Which one it is. */
  get deviceId(): string | undefined;
  stop(): void;
}

/** What `VoiceGate.push` gives. */
export interface Heard {
  /** Root mean square, of full scale 1. */
  level: number;
  isSpeech: boolean;
  begins: boolean;
  ends: boolean;
  /** The blocks to send, those from just before the beginning among them. */
  samples: Float32Array[];
}

/** Finds out when somebody speaks. */
export declare class VoiceGate {
  constructor(sampleRateHz: number);
  push(block: Float32Array): Heard;
}

/** 16-bit samples, clipped at full scale. */
export declare function toPcm(samples: Float32Array): Int16Array;

/** A model, as `GET /api/models` lists it. */
export interface Model {
  model_id: string;
  state: "unloaded" | "loading" | "ready" | "failed";
  /** Why the last load failed; else empty. */
  failure: string;
  fps: number;
  width: number;
  height: number;
  audio_kind: string;
}

export interface FetchOptions {
  /** As in `SessionOptions`. */
  server?: string | URL;
  key?: string;
  /** Default: as long as the browser waits. */
  timeoutMs?: number;
}

/** The JSON at a path of the server. Its errors are words for people, with `needsKey` where the server wants another key. */
export declare function fetchJson(path: string, options?: FetchOptions): Promise<unknown>;
/** The configured models. */
export declare function fetchModels(options?: FetchOptions): Promise<Model[]>;
/** Why a WebSocket was refused; undefined where nobody answers. `Session` asks by itself. */
export declare function refusal(options?: { server?: string | URL; key?: string }): Promise<string | undefined>;

/** Whether a text could be a key. */
export declare function isKey(text: string): boolean;
/** Headers of requests with this key. */
export declare function keyHeaders(key: string | undefined): Record<string, string>;
/** Subprotocols of WebSockets with this key. */
export declare function keyProtocols(key: string | undefined): string[];

/** What a session has sent, and what has come back of it: for a transport of your own. */
export declare class Ledger {
  constructor(rateHz: number, opened: { fps: number; maxBufferedAudioS: number });
  get held(): number;
  get room(): number;
  get segmentId(): number | undefined;
  get newest(): number;
  /** Goes on with the books of a session that was cut. */
  resume(newest: number): void;
  /** Begins a segment again from a sample on. */
  beginAt(segmentId: number, firstItem: number): void;
  /** Books samples, for which there must be room; gives their segment. */
  book(nSamples: number): number;
  endSegment(): number | undefined;
  clear(): void;
  /** False for what was interrupted. Throws where the server breaks the contract. */
  receive(message: Message): boolean;
}

/** Calls `onLevel(n)` when nothing was heard for `limitsMs[n - 1]`, and with 0 when something is heard again. */
export declare class Watch {
  constructor(limitsMs: readonly number[], onLevel: (level: number) => void);
  start(): void;
  heard(): void;
  stop(): void;
}

export declare function encodeOpen(options: OpenOptions): Uint8Array;
export declare function encodeAudio(segmentId: number, samples: Int16Array): Uint8Array;
export declare function encodeEndSegment(segmentId: number): Uint8Array;
/** Of one segment; of everything without an id. */
export declare function encodeClear(segmentId?: number): Uint8Array;
/** Undefined for a kind of a later version. Throws a RangeError for what is no message. */
export declare function decodeResponse(bytes: Uint8Array): Message | undefined;
