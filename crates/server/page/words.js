// Figures as people read them.

export function rounded(rate) {
  return rate < 10 && !Number.isInteger(rate) ? rate.toFixed(1) : `${Math.round(rate)}`;
}

export function bytes(count) {
  return count >= 2 ** 30 ? `${(count / 2 ** 30).toFixed(1)} GB` : `${Math.round(count / 2 ** 20)} MB`;
}

export function percent(ratio) {
  return `${rounded(100 * ratio)} %`;
}

export function milliseconds(seconds) {
  return seconds < 10 ? `${rounded(1000 * seconds)} ms` : `${rounded(seconds)} s`;
}

export function megabits(bytesPerSecond) {
  return `${rounded((bytesPerSecond * 8) / 1e6)} Mbit/s`;
}

export function duration(us) {
  const minutes = Math.floor(us / 60e6);
  if (minutes < 1) return `${Math.floor(us / 1e6)} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 1) return `${minutes} min`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}
