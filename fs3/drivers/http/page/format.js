// Numbers for people, as the commands print them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** [number, unit] of a number of bytes. */
export function sizeParts(bytes) {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return [digits(value), UNITS[unit]];
}

export function size(bytes) {
  return sizeParts(bytes).join(" ");
}

/** Three digits: 0, 4.25, 42.5, 425, 4 250. */
export function digits(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 0.01) return value.toPrecision(1);
  if (size < 10) return trim(value.toFixed(2));
  if (size < 100) return trim(value.toFixed(1));
  return group(Math.round(value));
}

function trim(text) {
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

/** 10 000 */
export function group(count) {
  return String(count).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Per second: 950, 1.25 k, 3.4 M */
export function rate(value) {
  if (Math.abs(value) < 1000) return digits(value >= 10 ? Math.round(value) : value);
  return Math.abs(value) < 1e6 ? `${digits(value / 1e3)}\u202fk` : `${digits(value / 1e6)}\u202fM`;
}

/** [number, unit] of milliseconds. */
export function timeParts(ms) {
  if (ms < 1) return [digits(Math.round(ms * 1000)), "µs"];
  return ms < 1000 ? [digits(ms), "ms"] : [digits(ms / 1000), "s"];
}

export function time(ms) {
  return timeParts(ms).join(" ");
}

/** How long, roughly: 40 s, 3 min, 2.5 h, 12 days */
export function span(seconds) {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${trim((seconds / 3600).toFixed(1))} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export function clock(ms) {
  return new Date(ms).toLocaleTimeString([], { hour12: false });
}

/** The time of day, with the day when it is not today's. */
export function when(ms) {
  const then = new Date(ms);
  const day = then.toDateString() === new Date().toDateString() ? "" : `${then.toLocaleDateString()} `;
  return day + clock(ms);
}

export function percent(part) {
  return `${digits(Math.round(1000 * part) / 10)} %`;
}

export function count(number, one, many) {
  return `${group(number)} ${number === 1 ? one : many}`;
}
