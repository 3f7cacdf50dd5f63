// The live view: rates are differences between two looks at the server's counters.

import { fetchJson } from "./client/index.js";
import { $, element, fillTable, put, share } from "./dom.js";
import { currentKey } from "./key.js";
import { gpuRows, modelRows, tenantRows, workerRows } from "./tables.js";
import { bytes, duration, rounded } from "./words.js";

const INTERVAL_MS = 1000;
// A server that takes longer hangs; the figures are said to be old then.
const PATIENCE_MS = 1500;
const N_POINTS = 60;
const STAGES = {
  audio: ["Hearing", "var(--leaf)"],
  background: ["Background", "var(--sun)"],
  queue: ["Waiting", "var(--soft)"],
  infer: ["Network", "var(--accent)"],
  composite: ["Picture", "var(--plum)"],
};

const sum = (list, of) => list.reduce((total, item) => total + of(item), 0);

export class Panel {
  #before;
  #points = [];
  // What the stages took when they last had something to do.
  #means = {};
  // When the figures were true.
  #asOf;

  constructor() {
    this.#look();
  }

  async #look() {
    if (!document.hidden) {
      try {
        this.#show(await fetchJson("api/stats", { key: currentKey(), timeoutMs: PATIENCE_MS }));
        this.#asOf = new Date();
        this.#stale(undefined);
      } catch (error) {
        this.#stale(error.message);
        this.#before = undefined;
      }
    }
    setTimeout(() => this.#look(), INTERVAL_MS);
  }

  // Old figures stay, but are called old.
  #stale(why) {
    for (const id of ["panel", "dashboard"]) $(id).classList.toggle("stale", why !== undefined);
    const since = this.#asOf ? ` Figures as of ${this.#asOf.toLocaleTimeString()}.` : "";
    // A live region: it is read out when it changes, so it does not change every second.
    put("stale", why === undefined ? "" : `${why}.${since}`);
  }

  #show({ server, models }) {
    // A restarted server counts from zero.
    const before = this.#before?.server.uptime_us < server.uptime_us ? this.#before : { server, models };
    this.#before = { server, models };
    const elapsedUs = server.uptime_us - before.server.uptime_us || INTERVAL_MS * 1000;
    this.#showRates(server, before.server, elapsedUs);
    this.#showHits(models, before.models);
    this.#showStages(server, before.server);
    this.#showTables(server, models, before.server, elapsedUs);
    put("sessions", server.sessions);
    put("sessions-of", `of ${server.max_sessions}`);
    put("queue", server.queue_depth);
    put("queue-of", `of ${server.queue_capacity}`);
    const { late_frames: late, max_late_us: mostUs, too_slow: cut } = server.session_stats;
    put("about", `${server.version} on ${server.device}`);
    put(
      "foot",
      `Up ${duration(server.uptime_us)}, ${bytes(server.resident_bytes)} of models in memory, ` +
        `${server.completed} batches done, ${server.rejected} refused, ${server.failed} failed` +
        (late > 0 ? `, ${late} frames late by up to ${(mostUs / 1e6).toFixed(1)} s` : "") +
        (cut > 0 ? `, ${cut} sessions too slow.` : "."),
    );
  }

  #showTables(server, models, before, elapsedUs) {
    $("dashboard").hidden = false;
    fillTable($("models"), modelRows(models));
    fillTable($("workers-table"), workerRows(server.workers, before.workers, elapsedUs));
    // Without tenants everybody is the same one.
    $("tenants-part").hidden = !server.has_tenants;
    fillTable($("tenants"), tenantRows(server.tenants ?? []));
    $("gpus-part").hidden = server.gpus.length === 0;
    fillTable($("gpus"), gpuRows(server.gpus));
  }

  #showRates(server, before, elapsedUs) {
    const frames = (stats) => sum(stats.workers, (worker) => worker.frames);
    const fps = ((frames(server) - frames(before)) * 1e6) / elapsedUs;
    this.#points = [...this.#points, fps].slice(-N_POINTS);
    put("fps", rounded(fps));
    const shown = server.session_stats.frames - before.session_stats.frames;
    put("shown", `made, ${rounded((shown * 1e6) / elapsedUs)} shown`);
    this.#draw();
    const rows = $("workers");
    while (rows.children.length < server.workers.length) rows.append(element("div", "worker", element("span", "")));
    while (rows.children.length > server.workers.length) rows.lastChild.remove();
    const busy = server.workers.map((worker, i) => (worker.busy_us - (before.workers[i]?.busy_us ?? 0)) / elapsedUs);
    busy.forEach((value, i) => share(rows.children[i].firstChild, value));
    put("busy", Math.round((100 * sum(busy, (b) => Math.min(b, 1))) / busy.length));
  }

  #draw() {
    const [width, height] = [120, 30];
    const top = Math.max(30, ...this.#points) * 1.1;
    const x = (i) => width - (this.#points.length - 1 - i) * (width / (N_POINTS - 1));
    const places = this.#points.map((fps, i) => `${x(i).toFixed(1)} ${(height - (fps / top) * (height - 2)).toFixed(1)}`);
    const line = `M${places.join("L")}`;
    const chart = $("fps-chart");
    chart.querySelector(".line").setAttribute("d", line);
    chart.querySelector(".area").setAttribute("d", `${line}L${width} 32L${x(0).toFixed(1)} 32Z`);
  }

  // Of the last second; of all time while nothing was asked for.
  #showHits(models, before) {
    const of = (list, key) => sum(list, (model) => model[key]);
    const grown = (key) => of(models, key) - of(before, key);
    const recent = grown("cache_requests") > 0;
    const asked = recent ? grown("cache_requests") : of(models, "cache_requests");
    const hit = recent ? grown("cache_hits") : of(models, "cache_hits");
    put("hits", asked > 0 ? Math.round((100 * hit) / asked) : "–");
    share($("hits-bar"), asked > 0 ? hit / asked : 0);
  }

  #showStages(server, before) {
    for (const now of server.stages) {
      const then = before.stages.find((s) => s.stage === now.stage) ?? { frames: 0, total_us: 0 };
      const recent = now.frames > then.frames;
      const frames = recent ? now.frames - then.frames : now.frames;
      const us = recent ? now.total_us - then.total_us : now.total_us;
      if (recent || !(now.stage in this.#means)) this.#means[now.stage] = frames > 0 ? us / frames / 1000 : 0;
    }
    const longest = Math.max(1, ...Object.values(this.#means));
    const list = $("stages");
    for (const [stage, ms] of Object.entries(this.#means)) {
      let row = list.querySelector(`[data-stage="${stage}"]`);
      if (!row) {
        const [name, tone] = STAGES[stage] ?? [stage, "var(--plum)"];
        row = element("div", "bar", element("span", ""));
        row.dataset.stage = stage;
        row.style.setProperty("--tone", tone);
        list.append(element("span", "", name), row, element("span", "time"));
      }
      share(row.firstChild, ms / longest);
      row.nextSibling.textContent = `${ms.toFixed(1)} ms`;
    }
  }
}
