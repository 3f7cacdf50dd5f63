// Which figures of the past are shown together, what they are called, and in which units.

import { bytes, megabits, milliseconds, percent, rounded } from "./words.js";

const count = (value) => rounded(value);
const days = (value) => `${Math.floor(value)} days left`;
const celsius = (value) => `${Math.round(value)} °C`;

// Each chart: `figures` by the server's names and what they are called, the text of a value, and what the axis reaches
// at least. `top`: it reaches that and no more. `unit`: one of what the axis counts.
export const CHARTS = [
  { title: "Frames per second", figures: { frames_per_s: "sent" }, text: rounded, least: 25 },
  { title: "Sessions", figures: { sessions: "open" }, text: rounded, least: 2 },
  {
    title: "Waiting time",
    figures: { queue_wait_p95_s: "for a worker", request_p95_s: "for a call" },
    text: milliseconds,
    least: 0.01,
    note: "95th percentile",
  },
  {
    title: "Trouble with frames",
    figures: { late_ratio: "late", skipped_ratio: "without the network" },
    text: percent,
    least: 0.1,
  },
  {
    title: "Busy",
    figures: { worker_busy_ratio: "workers", gpu_utilization_ratio: "GPU" },
    text: percent,
    top: 1,
  },
  { title: "Processor", figures: { cpu_cores: "cores in use" }, text: rounded, least: 1 },
  {
    title: "Memory of the server",
    figures: { resident_bytes: "process", model_bytes: "models" },
    text: bytes,
    least: 100 * 2 ** 20,
    unit: 2 ** 20,
  },
  {
    title: "Memory in use",
    figures: { memory_ratio: "machine", gpu_memory_ratio: "GPU" },
    text: percent,
    top: 1,
  },
  {
    title: "Traffic",
    figures: { sent_bytes_per_s: "sent", received_bytes_per_s: "received" },
    text: megabits,
    least: 125_000,
    unit: 125_000,
  },
  {
    title: "Calls per second",
    figures: { calls_per_s: "ended", refused_per_s: "refused", failed_per_s: "failed" },
    text: rounded,
    least: 1,
  },
  {
    title: "Found in caches",
    figures: { visual_cache_hit_ratio: "network results", background_cache_hit_ratio: "background frames" },
    text: percent,
    top: 1,
  },
  {
    title: "Trouble with workers",
    figures: { worker_restarts_5m: "restarts in 5 min", workers_lost: "lost", breakers_open: "models refused" },
    text: count,
    least: 2,
  },
  { title: "Queue", figures: { queue_depth: "jobs waiting" }, text: rounded, least: 5 },
  { title: "GPU temperature", figures: { gpu_temperature_celsius: "hottest" }, text: celsius, top: 100 },
];

// The server's alerts by name, as people call them, and how their values are written.
export const ALERTS = {
  queue_wait: ["Work waits long for a worker", milliseconds],
  errors: ["Calls fail", percent],
  late_frames: ["Frames are late", percent],
  memory: ["The machine's memory is nearly full", percent],
  gpu_memory: ["A GPU's memory is nearly full", percent],
  gpu_temperature: ["A GPU is hot", celsius],
  gpu_utilization: ["A GPU has no time left", percent],
  worker_restarts: ["Workers fail and are built again, in 5 minutes", count],
  workers_lost: ["Workers are lost", count],
  breakers_open: ["Models are refused because they keep failing", count],
  certificate: ["A certificate ends soon", days],
  reload: ["The last reload was refused: the log says why", () => "the old configuration holds"],
};
