// The rows of the tables: what each model, tenant, worker and GPU is and does now.

import { bytes, percent } from "./words.js";

const count = (n) => n.toLocaleString();
const NONE = "–";

export function modelRows(models) {
  return models.map((model) => {
    const isReady = model.state === "ready";
    const memory = (n) => (isReady && n !== undefined ? bytes(n) : NONE);
    return [
      model.model_id,
      model.failure ? `${model.state}: ${model.failure}` : model.state,
      model.width ? `${model.width} × ${model.height}, ${model.fps} fps` : NONE,
      model.device || NONE,
      memory(model.weights_bytes),
      memory(model.cache_bytes),
      memory(model.visual_cache_bytes),
      model.cache_requests > 0 ? percent(model.cache_hits / model.cache_requests) : NONE,
      count(model.frames),
    ];
  });
}

export function tenantRows(tenants) {
  return tenants.map((tenant) => [
    tenant.tenant_id,
    count(tenant.inflight),
    count(tenant.requests),
    count(tenant.sessions),
    count(tenant.frames),
    count(tenant.refused),
    count(tenant.failed),
  ]);
}

// `before` are the same workers `elapsedUs` earlier.
export function workerRows(workers, before, elapsedUs) {
  return workers.map((worker, i) => {
    const busy = Math.min((worker.busy_us - (before[i]?.busy_us ?? 0)) / elapsedUs, 1);
    return [
      `${i + 1}`,
      worker.device,
      worker.is_here === false ? "gone" : percent(Math.max(busy, 0)),
      count(worker.frames),
      count(worker.restarts),
      count(worker.faults + worker.out_of_memory),
    ];
  });
}

export function gpuRows(gpus) {
  return gpus.map((gpu) => [
    gpu.device,
    gpu.name,
    `${gpu.utilization_percent} %`,
    `${bytes(gpu.memory_used_bytes)} of ${bytes(gpu.memory_total_bytes)}`,
    `${gpu.temperature_c} °C`,
    `${Math.round(gpu.power_mw / 1000)} of ${Math.round(gpu.power_limit_mw / 1000)} W`,
  ]);
}
