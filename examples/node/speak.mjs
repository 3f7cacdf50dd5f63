// One second of speech in, JPEG files out: node speak.mjs HOST:PORT MODEL FILE.wav FOLDER
// The proto file is loaded as it is; there is nothing to generate. Sessions: ../../clients/js.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import grpc from '@grpc/grpc-js'
import loader from '@grpc/proto-loader'

const [address, model, wav, folder] = process.argv.slice(2)
const proto = new URL('../../proto/lipsync/v1/lipsync.proto', import.meta.url).pathname
const { LipSync } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true })).lipsync.v1
const options = { 'grpc.max_receive_message_length': 50 << 20, 'grpc.keepalive_time_ms': 20_000 }
const client = new LipSync(address, grpc.credentials.createInsecure(), options)

const file = readFileSync(wav)
const head = file.toString('latin1', 0, 4) + file.toString('hex', 20, 36) + file.toString('latin1', 36, 40)
if (head !== 'RIFF01000100803e0000007d000002001000data') {
  throw new Error(`${wav}: this example takes 16-bit mono WAV files of 16 kHz with a plain header of 44 bytes`)
}
const samples = file.subarray(44, 44 + 2 * 16_000)
const request = { model_id: model, pcm: { samples, sample_rate_hz: 16_000 } }
client.inferBatchComposite(request, { deadline: Date.now() + 60_000 }, (error, answer) => {
  if (error) throw error
  mkdirSync(folder, { recursive: true })
  answer.frames.forEach((frame, n) => writeFileSync(`${folder}/${n}.jpg`, frame.data))
  console.log(`${answer.frames.length} frames`)
  client.close()
})
