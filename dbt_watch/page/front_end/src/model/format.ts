/** How numbers, times and counts are written; the same words as in the report. */

export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** Return a duration that goes on, without the fractions that would flicker. */
export function running(seconds: number): string {
  const whole = Math.max(Math.floor(seconds), 0);
  return whole < 60 ? `${whole} s` : duration(whole);
}

/** Return what a duration became, in seconds and as a share of what it was. */
export function change(from: number, to: number): string {
  const sign = to < from ? "−" : "+";
  const share = from > 0 ? ` (${sign}${Math.round((Math.abs(to - from) / from) * 100)} %)` : "";
  return `${sign}${duration(Math.abs(to - from))}${share}`;
}

export const number = (value: number): string => value.toLocaleString("en");

export const counted = (count: number, what: string): string => `${number(count)} ${what}${count === 1 ? "" : "s"}`;

/** Return a moment in UTC; the empty string for what is none. */
export function clock(time: string | null | undefined): string {
  const moment = time ? Date.parse(time) : Number.NaN;
  return Number.isNaN(moment) ? "" : `${new Date(moment).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** Return the time of day of a moment, in UTC. */
export function timeOfDay(time: string | null | undefined): string {
  return clock(time).slice(11, 19);
}

export function secondsBetween(
  from: string | number | null | undefined,
  to: string | number | null | undefined,
): number {
  return (moment(to) - moment(from)) / 1000;
}

const moment = (time: string | number | null | undefined): number =>
  typeof time === "number" ? time : time ? Date.parse(time) : Number.NaN;

/** Return a text as one line, shortened. */
export const oneLine = (text: string, length = 300): string =>
  text.split(/\s+/).filter(Boolean).join(" ").slice(0, length);
