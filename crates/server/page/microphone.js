// The microphone, as blocks of samples at the context's rate.

// Why it cannot be used, in words for the person who asked; undefined if it can.
export function unavailable() {
  if (globalThis.isSecureContext && navigator.mediaDevices) return undefined;
  return "Browsers give a page the microphone only on localhost or over https.";
}

// Gives `onBlock(Float32Array)` what is heard until `stop()`.
export class Microphone {
  #stream;
  #nodes = [];

  static async start(context, onBlock) {
    const microphone = new Microphone();
    // Without echo cancellation the avatar would interrupt herself.
    const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    microphone.#stream = await navigator.mediaDevices.getUserMedia({ audio });
    try {
      await context.audioWorklet.addModule("capture.js");
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

  stop() {
    for (const track of this.#stream.getTracks()) track.stop();
    for (const node of this.#nodes) {
      node.disconnect();
      if (node.port) node.port.onmessage = null;
    }
  }
}
