/** Numbers as people read them. What a server does not tell is a dash, never 0. */

export const ABSENT = "–";

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

function orAbsent(format) {
  return (value) => (value === null || value === undefined ? ABSENT : format(value));
}

/** Requests, tokens. */
export const count = orAbsent((value) => whole.format(value));

/** Per second: three digits, and all of those before the point. */
export const rate = orAbsent((value) => (value >= 100 ? whole : digits).format(value));

/** A ratio, 0 to 1. */
export const percent = orAbsent((value) => `${tenths.format(100 * value)} %`);

/** Seconds, of requests and tokens: in ms below one. */
export const seconds = orAbsent((value) =>
  value < 1 ? `${digits.format(1000 * value)} ms` : `${digits.format(value)} s`,
);

/** Seconds, of how long ago something was. */
export const age = orAbsent((value) => {
  if (value < 10) return `${Math.max(value, 0).toFixed(1)} s`;
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${Math.round(value / 3600)} h`;
});

/** Bytes, by 1024. */
export const bytes = orAbsent((value) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let n = 0;
  while (value >= 1024 && n < units.length - 1) {
    value /= 1024;
    n += 1;
  }
  return `${digits.format(value)} ${units[n]}`;
});

/** Seconds since 1970, as the time of day where the reader is. */
export const timeOfDay = orAbsent((value) => {
  const moment = new Date(1000 * value);
  return [moment.getHours(), moment.getMinutes(), moment.getSeconds()]
    .map((part) => String(part).padStart(2, "0"))
    .join(":");
});

/** How a field of a snapshot is shown, by its name. */
export function formatOf(field) {
  if (/_per_second$/.test(field)) return /bytes/.test(field) ? (value) => `${bytes(value)}/s` : rate;
  if (/(ratio|rate|utilization)$/.test(field)) return percent;
  if (/_seconds$/.test(field)) return seconds;
  if (/_bytes$/.test(field)) return bytes;
  if (/_length$/.test(field)) return rate;
  return count;
}

/** The name of a field in words. */
export function inWords(field) {
  const text = field.replaceAll("_", " ").replace("http", "HTTP");
  return text[0].toUpperCase() + text.slice(1);
}
