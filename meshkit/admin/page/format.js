// Numbers and times as text. What is not a number reads "–", never NaN.

export const NONE = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** 0, 0.4, 7.2, 41, 1,234, 1.28 M */
export function count(value) {
  if (!known(value)) return NONE;
  if (value !== 0 && Math.abs(value) < 10 && !Number.isInteger(value)) return value.toFixed(1);
  if (Math.abs(value) >= 999_999.5) return `${(value / 1e6).toFixed(2)} M`;
  return Math.round(value).toLocaleString("en");
}

/** Seconds as 210 µs, 2.1 ms, 31 ms, 1.20 s, 2 min 5 s. */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds <= 0) return "0 ms";
  if (seconds < 0.000_999_5) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.009_95) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 0.999_5) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 9.995) return `${seconds.toFixed(2)} s`;
  return span(seconds);
}

/** Whole seconds: 7 s, 2 min 5 s, 3 h 2 min. */
export function span(seconds) {
  if (!known(seconds)) return NONE;
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return whole % 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole / 60} min`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** A share of 0 to 1: 100 %, 99.87 %, 99.9 %. Less than all is never rounded up to 100 %. */
export function percent(share) {
  if (!known(share)) return NONE;
  if (share >= 1) return "100 %";
  if (share <= 0) return "0 %";
  const value = Math.min(share * 100, 99.99);
  return `${value >= 99 ? value.toFixed(2) : value.toFixed(1)} %`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** Unix seconds as 12:03:04, in the reader's time zone. */
export function clock(unix) {
  return known(unix) ? CLOCK.format(new Date(unix * 1000)) : NONE;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}
