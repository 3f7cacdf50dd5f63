// One chart of the past, as an SVG. It can be read by eye, with a pointer, and with the arrow keys: it is a slider over
// the time, whose value is told in words.

import { element, write } from "./dom.js";
import { roundTop } from "./past.js";

const SVG = "http://www.w3.org/2000/svg";
export const N_BUCKETS = 150;
const HEIGHT = 60;
// Dashes, so that lines differ without their colours, too.
const N_TONES = 3;

function shape(name, className) {
  const node = document.createElementNS(SVG, name);
  node.setAttribute("class", className);
  return node;
}

export class Chart {
  #what;
  #node;
  #area;
  #svg;
  #cursor;
  #top;
  #times;
  // By figure: { name, band, line, value }.
  #lines = [];
  #columns = [];
  #place;
  #onPlace;
  #timeOf;

  // `what` is one of `CHARTS`. `onPlace(n)` is called where somebody looks at a bucket, with undefined when nobody does
  // any more. `timeOf(seconds)` writes a time.
  constructor(what, { onPlace, timeOf }) {
    this.#what = what;
    this.#onPlace = onPlace;
    this.#timeOf = timeOf;
    this.#svg = shape("svg", "plot-lines");
    this.#svg.setAttribute("viewBox", `0 0 ${N_BUCKETS - 1} ${HEIGHT}`);
    this.#svg.setAttribute("preserveAspectRatio", "none");
    this.#svg.setAttribute("aria-hidden", "true");
    this.#cursor = shape("path", "plot-cursor");
    const half = shape("path", "plot-half");
    half.setAttribute("d", `M0 ${HEIGHT / 2}H${N_BUCKETS - 1}`);
    this.#svg.append(half);
    const legend = element("ul", "legend");
    Object.entries(what.figures).forEach(([name, label], i) => {
      const tone = `tone-${i % N_TONES}`;
      const [band, line] = [shape("path", `plot-band ${tone}`), shape("path", `plot-line ${tone}`)];
      this.#svg.append(band, line);
      const value = element("b");
      const swatch = shape("svg", `swatch ${tone}`);
      swatch.setAttribute("viewBox", "0 0 18 4");
      swatch.setAttribute("aria-hidden", "true");
      const stroke = shape("path", `plot-line ${tone}`);
      stroke.setAttribute("d", "M0 2H18");
      swatch.append(stroke);
      const entry = element("li", "", swatch, `${label} `, value);
      legend.append(entry);
      this.#lines.push({ name, label, band, line, value, entry });
    });
    this.#svg.append(this.#cursor);
    this.#top = element("span", "plot-top");
    this.#area = element("div", "plot-area", this.#svg, this.#top);
    this.#area.tabIndex = 0;
    this.#area.setAttribute("role", "slider");
    this.#area.setAttribute("aria-label", `${what.title}: time`);
    this.#area.setAttribute("aria-valuemin", 0);
    this.#area.setAttribute("aria-valuemax", N_BUCKETS - 1);
    this.#times = [element("span"), element("span"), element("span")];
    const title = element("figcaption", "", element("h3", "", what.title));
    if (what.note) title.append(element("small", "", what.note));
    this.#node = element("figure", "plot", title, legend, this.#area, element("div", "plot-times", ...this.#times));
    this.#listen();
    this.#describe();
  }

  get node() {
    return this.#node;
  }

  #listen() {
    const area = this.#area;
    area.onpointermove = ({ clientX }) => {
      const { left, width } = area.getBoundingClientRect();
      this.#look(Math.round(((clientX - left) / width) * (N_BUCKETS - 1)));
    };
    area.onpointerdown = area.onpointermove;
    // A finger that was lifted has left, too; what it showed stays.
    area.onpointerleave = ({ pointerType }) => pointerType !== "touch" && this.#look(undefined);
    area.onblur = () => this.#look(undefined);
    // Who clicks has looked already.
    area.onfocus = () => this.#place === undefined && this.#look(N_BUCKETS - 1);
    area.onkeydown = (event) => {
      const place = this.#place ?? N_BUCKETS - 1;
      const next = {
        ArrowLeft: place - 1,
        ArrowDown: place - 1,
        ArrowRight: place + 1,
        ArrowUp: place + 1,
        PageDown: place - 10,
        PageUp: place + 10,
        Home: 0,
        End: N_BUCKETS - 1,
      }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      this.#look(next);
    };
  }

  #look(place) {
    this.#onPlace(place === undefined ? undefined : Math.max(0, Math.min(N_BUCKETS - 1, place)));
    this.#describe();
  }

  // What the past says. A chart of figures that were never known is hidden.
  draw(past) {
    this.#columns = this.#lines.map(({ name }) => past.buckets(name, N_BUCKETS));
    const isKnown = this.#columns.map((buckets) => buckets.some(({ peak }) => peak !== null));
    this.#node.hidden = !isKnown.includes(true);
    if (this.#node.hidden) return;
    const { top: fixed, least = 0, text, unit = 1 } = this.#what;
    const highest = Math.max(least, ...this.#columns.flat().map(({ peak }) => peak ?? 0));
    const top = fixed ?? roundTop(highest / unit) * unit;
    write(this.#top, text(top));
    const y = (value) => (HEIGHT - 1 - Math.min(value / top, 1) * (HEIGHT - 2)).toFixed(1);
    this.#lines.forEach(({ band, line, entry }, i) => {
      entry.hidden = !isKnown[i];
      line.setAttribute("d", runs(this.#columns[i], y).map(lineOf).join(""));
      band.setAttribute("d", runs(this.#columns[i], y).map(bandOf).join(""));
    });
    const times = this.#columns[0];
    [0, (N_BUCKETS / 2) | 0, N_BUCKETS - 1].forEach((n, i) => write(this.#times[i], this.#timeOf(times[n].atS)));
    this.mark(this.#place);
  }

  // Shows the values of one bucket; the newest without one.
  mark(place) {
    this.#place = place;
    this.#cursor.setAttribute("d", place === undefined ? "" : `M${place} 0V${HEIGHT}`);
    this.#lines.forEach(({ value }, i) => write(value, this.#textAt(i, place)));
  }

  #textAt(i, place) {
    const bucket = this.#columns[i]?.[place ?? N_BUCKETS - 1];
    if (!bucket || bucket.mean === null) return "–";
    const [mean, peak] = [this.#what.text(bucket.mean), this.#what.text(bucket.peak)];
    return place === undefined || mean === peak ? mean : `${mean}, up to ${peak}`;
  }

  // For those who do not see it. Only when they move, or else it would be read out all the time.
  #describe() {
    const place = this.#place ?? N_BUCKETS - 1;
    const atS = this.#columns[0]?.[place]?.atS;
    const values = this.#lines.filter(({ entry }) => !entry.hidden).map(({ label, value }) => `${label} ${value.textContent}`);
    const time = atS === undefined ? "" : `${this.#timeOf(atS)}: `;
    this.#area.setAttribute("aria-valuenow", place);
    this.#area.setAttribute("aria-valuetext", `${time}${values.join(", ") || "not known yet"}`);
  }
}

// The parts without a gap, as `[x, y of the mean, y of the peak]`.
export function runs(buckets, y) {
  const parts = [];
  let isOpen = false;
  buckets.forEach(({ mean, peak }, x) => {
    if (mean !== null) {
      if (!isOpen) parts.push([]);
      parts.at(-1).push([x, y(mean), y(peak)]);
    }
    isOpen = mean !== null;
  });
  return parts;
}

// A part of one point is a dot: the ends of lines are round.
function lineOf(run) {
  const points = run.map(([x, mean]) => `${x} ${mean}`);
  return `M${points.join("L")}${run.length === 1 ? "h0.01" : ""}`;
}

// Between the means and the peaks.
function bandOf(run) {
  const peaks = run.map(([x, , peak]) => `${x} ${peak}`);
  const means = run.map(([x, mean]) => `${x} ${mean}`).reverse();
  return `M${[...peaks, ...means].join("L")}Z`;
}
