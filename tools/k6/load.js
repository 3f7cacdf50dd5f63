// One unary call after another for each of VUS users, and what may not happen. See run.sh.
import { check } from 'k6'
import encoding from 'k6/encoding'
import grpc from 'k6/net/grpc'
import { Trend } from 'k6/metrics'

const client = new grpc.Client()
client.load([__ENV.PROTO], 'lipsync/v1/lipsync.proto')
// 16 kHz, 16 bits, mono; eight frames.
const wav = new Uint8Array(open(__ENV.WAV, 'b'))
const samples = encoding.b64encode(wav.slice(44, 44 + 2 * 8 * 640).buffer)
const frames = new Trend('frames_per_call')

export const options = {
  scenarios: { users: { executor: 'constant-vus', vus: Number(__ENV.VUS), duration: `${__ENV.SECONDS}s` } },
  thresholds: { checks: ['rate==1'], frames_per_call: ['min==8'] },
}

export default () => {
  // A connection of each user's own, at its first turn.
  if (__ITER === 0) client.connect(__ENV.ADDRESS, { plaintext: true, maxReceiveSize: 50 << 20 })
  const request = { model_id: __ENV.MODEL, pcm: { samples, sample_rate_hz: 16000 } }
  const answer = client.invoke('lipsync.v1.LipSync/InferBatchComposite', request, { timeout: '60s' })
  check(answer, { 'the call is good': ({ status }) => status === grpc.StatusOK })
  if (answer.status === grpc.StatusOK) frames.add(answer.message.frames.length)
}
