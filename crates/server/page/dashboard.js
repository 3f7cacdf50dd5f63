// What operators look at: charts of the past, alerts, advice. The tables of the present are the panel's.

import { fetchJson } from "./client/index.js";
import { Chart } from "./chart.js";
import { $, each, element, fillTable, put, write } from "./dom.js";
import { ALERTS, CHARTS } from "./figures.js";
import { currentKey } from "./key.js";
import { Past, SCALES } from "./past.js";

// So often it is looked for something new, in ms; charts also no more often than there is a new step.
const PAST_MS = 2_000;
const ALERTS_MS = 5_000;
const ADVICE_MS = 30_000;
const AFTER_FAILURE_MS = 10_000;
// A week is a megabyte.
const PATIENCE_MS = 10_000;

// As long ago as that, times need their day.
const DAY_S = 86_400;

export class Dashboard {
  #past = new Past("1s");
  #charts;
  // Those who look at one chart see the same time in all.
  #place;

  constructor() {
    const timeOf = (atS) => this.#time(atS);
    const onPlace = (place) => this.#look(place);
    this.#charts = CHARTS.map((what) => new Chart(what, { timeOf, onPlace }));
    $("charts").append(...this.#charts.map(({ node }) => node));
    for (const input of document.querySelectorAll("[name='scale']")) {
      input.onchange = () => this.#show(input.value);
    }
    $("numbers").ontoggle = () => this.#tabulate();
    this.#repeat(() => this.#fetchPast(), () => Math.max(PAST_MS, 1000 * SCALES[this.#past.scale].stepS / 3));
    this.#repeat(() => this.#fetchAlerts(), () => ALERTS_MS);
    this.#repeat(() => this.#fetchAdvice(), () => ADVICE_MS);
  }

  // A page that nobody looks at asks for nothing. What fails is tried again; the panel says why.
  async #repeat(look, pauseMs) {
    let pause = pauseMs();
    try {
      if (!document.hidden) await look();
    } catch {
      pause = Math.max(pause, AFTER_FAILURE_MS);
    }
    setTimeout(() => this.#repeat(look, pauseMs), pause);
  }

  #fetch(path) {
    return fetchJson(path, { key: currentKey(), timeoutMs: PATIENCE_MS });
  }

  async #fetchPast() {
    const past = this.#past;
    const since = past.newestS === undefined ? "" : `&since_s=${past.newestS}`;
    const answer = await this.#fetch(`api/history?scale=${past.scale}${since}`);
    if (past !== this.#past) return;
    past.take(answer);
    this.#draw();
  }

  #show(scale) {
    this.#past = new Past(scale);
    this.#fetchPast().catch(() => {});
  }

  #draw() {
    const isEmpty = this.#past.newestS === undefined;
    put("charts-note", isEmpty ? "Nothing is known of this time yet: the first figures come at the end of a step." : "");
    $("charts").hidden = isEmpty;
    for (const chart of this.#charts) chart.draw(this.#past);
    this.#tabulate();
  }

  #look(place) {
    if (place === this.#place) return;
    this.#place = place;
    for (const chart of this.#charts) chart.mark(place);
  }

  #time(atS) {
    const time = new Date(1000 * atS);
    const { spanS } = SCALES[this.#past.scale];
    if (spanS > DAY_S) return time.toLocaleString([], { weekday: "short", hour: "2-digit", minute: "2-digit" });
    const second = spanS <= 600 ? "2-digit" : undefined;
    return time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second });
  }

  // The charts as text.
  #tabulate() {
    if (!$("numbers").open) return;
    const rows = CHARTS.flatMap(({ title, figures, text }) =>
      Object.entries(figures).flatMap(([name, label]) => {
        const found = this.#past.summary(name);
        if (!found) return [];
        const { latest, mean, peak, peakAtS } = found;
        return [[`${title}: ${label}`, text(latest), text(mean), text(peak), this.#time(peakAtS)]];
      }),
    );
    fillTable($("numbers-table"), rows);
  }

  async #fetchAlerts() {
    const alerts = await this.#fetch("api/alerts");
    const raised = alerts.filter(({ severity }) => severity !== null);
    // The worst first.
    raised.sort((a, b) => a.severity.localeCompare(b.severity));
    put("alerts-state", raised.length === 0 ? "No alerts" : `${raised.length} alert${raised.length > 1 ? "s" : ""}`);
    $("alerts-state").dataset.state = raised[0]?.severity ?? "well";
    const make = () => element("li", "alert", element("b"), element("span"));
    each($("alerts"), raised, make, (item, { name, severity, value, since_s: sinceS }) => {
      const [words, text] = ALERTS[name] ?? [name.replaceAll("_", " "), (x) => `${x}`];
      const since = new Date(1000 * sinceS).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
      item.dataset.severity = severity;
      write(item.children[0], severity === "critical" ? "Critical" : "Warning");
      write(item.children[1], `${words}: ${value === null ? "–" : text(value)}, since ${since}`);
    });
  }

  // Only servers of some versions give any.
  async #fetchAdvice() {
    const advice = await this.#fetch("api/advice");
    $("advice-part").hidden = false;
    const items = advice.length > 0 ? advice : [undefined];
    const make = () => element("li", "", element("code"), element("span"));
    each($("advice"), items, make, (item, one) => {
      const start = one?.needs_restart ? " (with the next start)" : "";
      write(item.children[0], one ? `${one.key}: ${one.from} → ${one.to}` : "");
      write(item.children[1], one ? `${one.cause}${start}` : "Nothing to change.");
    });
  }
}
