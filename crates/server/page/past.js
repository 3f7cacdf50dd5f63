// The past of the server's figures, as `/api/history` tells it: whole once, then what is new. Pure bookkeeping.

// What the server keeps: how far back, in which steps.
export const SCALES = {
  "1s": { spanS: 600, stepS: 1 },
  "10s": { spanS: 10_800, stepS: 10 },
  "5m": { spanS: 604_800, stepS: 300 },
};

export class Past {
  #scale;
  // Ascending, seconds since the Unix epoch by the server's clock.
  #atS = [];
  // By name: { means, peaks }, in step with the times; null where a figure was not known.
  #figures = new Map();

  constructor(scale) {
    this.#scale = scale;
  }

  get scale() {
    return this.#scale;
  }

  // The time of the newest step; undefined while there is none.
  get newestS() {
    return this.#atS.at(-1);
  }

  // Adds the steps that are newer than those that are here, and drops those that have become too old.
  take({ at_s: atS, figures }) {
    const newest = this.newestS ?? -Infinity;
    const found = atS.findIndex((at) => at > newest);
    const from = found < 0 ? atS.length : found;
    const nBefore = this.#atS.length;
    this.#atS.push(...atS.slice(from));
    // Another version of the server may know other figures.
    const unknown = (n) => Array.from({ length: n }, () => null);
    for (const { name, means, peaks } of figures) {
      if (!this.#figures.has(name)) this.#figures.set(name, { means: unknown(nBefore), peaks: unknown(nBefore) });
      const figure = this.#figures.get(name);
      figure.means.push(...means.slice(from));
      figure.peaks.push(...peaks.slice(from));
    }
    for (const { means, peaks } of this.#figures.values()) {
      const missing = unknown(this.#atS.length - means.length);
      means.push(...missing);
      peaks.push(...missing);
    }
    this.#forget();
  }

  #forget() {
    const oldest = this.newestS - SCALES[this.#scale].spanS;
    const n = this.#atS.findIndex((at) => at > oldest);
    if (n <= 0) return;
    this.#atS.splice(0, n);
    for (const { means, peaks } of this.#figures.values()) {
      means.splice(0, n);
      peaks.splice(0, n);
    }
  }

  // A figure over the whole span in `n` buckets, the newest last: `{ atS, mean, peak }`, null where it was not known.
  buckets(name, n) {
    const { spanS } = SCALES[this.#scale];
    const { means, peaks } = this.#figures.get(name) ?? { means: [], peaks: [] };
    const startS = (this.newestS ?? 0) - spanS;
    const sums = Array.from({ length: n }, () => ({ sum: 0, count: 0, peak: null }));
    means.forEach((mean, i) => {
      if (mean === null) return;
      const place = Math.min(Math.ceil(((this.#atS[i] - startS) / spanS) * n) - 1, n - 1);
      const bucket = sums[Math.max(place, 0)];
      bucket.sum += mean;
      bucket.count += 1;
      bucket.peak = Math.max(bucket.peak ?? -Infinity, peaks[i] ?? mean);
    });
    return sums.map(({ sum, count, peak }, i) => ({
      atS: startS + ((i + 1) * spanS) / n,
      mean: count > 0 ? sum / count : null,
      peak,
    }));
  }

  // The newest known value, the mean, and the highest with its time; undefined where it was never known.
  summary(name) {
    const { means = [], peaks = [] } = this.#figures.get(name) ?? {};
    let [sum, count, latest, peak, peakAtS] = [0, 0, undefined, -Infinity, undefined];
    means.forEach((mean, i) => {
      if (mean === null) return;
      [sum, count, latest] = [sum + mean, count + 1, mean];
      const highest = peaks[i] ?? mean;
      if (highest >= peak) [peak, peakAtS] = [highest, this.#atS[i]];
    });
    return count === 0 ? undefined : { latest, mean: sum / count, peak, peakAtS };
  }
}

// The end of an axis that has to reach `value`: 1, 2 or 5 times a power of ten.
export function roundTop(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  // Nearly as high is high enough: 0.3 is 2.9999999999999996 times 0.1.
  return [1, 2, 5, 10].find((n) => n * power >= value * (1 - 1e-9)) * power;
}
