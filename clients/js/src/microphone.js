// The microphone, as blocks of samples at the context's rate.

// Why it cannot be used, in words for the person who asked; undefined if it can.
export function unavailable() {
  if (globalThis.isSecureContext && navigator.mediaDevices) return undefined;
  return "Browsers give a page the microphone only on localhost or over https.";
}

// The microphones that there are: `[{ deviceId, label }]`. Browsers keep the labels until the microphone was allowed.
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter(({ kind }) => kind === "audioinput").map(({ deviceId, label }) => ({ deviceId, label }));
}

// Gives `onBlock(Float32Array)` what is heard until `stop()`.
export class Microphone {
  #stream;
  #nodes = [];

  // `deviceId` is one of `microphones()`; the browser's choice without it.
  static async start(context, onBlock, deviceId) {
    const microphone = new Microphone();
    // Without echo cancellation the avatar would interrupt herself.
    const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    if (deviceId) audio.deviceId = { exact: deviceId };
    microphone.#stream = await navigator.mediaDevices.getUserMedia({ audio });
    try {
      // Beside this file, wherever that came from.
      await context.audioWorklet.addModule(new URL("capture.js", import.meta.url));
      const source = context.createMediaStreamSource(microphone.#stream);
      const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
      capture.port.onmessage = (event) => onBlock(event.data);
      source.connect(capture);
      microphone.#nodes = [source, capture];
    } catch (error) {
      microphone.stop();
      throw error;
    }
    return microphone;
  }

  // Which one it is, as `microphones()` lists it.
  get deviceId() {
    return this.#stream.getAudioTracks()[0]?.getSettings().deviceId;
  }

  stop() {
    for (const track of this.#stream.getTracks()) track.stop();
    for (const node of this.#nodes) {
      node.disconnect();
      if (node.port) node.port.onmessage = null;
    }
  }
}
