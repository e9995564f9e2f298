/** The timeline: the record's once the run is over; until then, lanes that are worked out from the times of the nodes. */
import type { Bar, Command, Lane, NodeRecord, RecordAnswer } from "../types";
import { secondsBetween } from "./format";

/** When the times of a run count from, in milliseconds. */
export function startOf({ record, live }: RecordAnswer): number {
  const times = [
    record.started_at,
    ...record.nodes.map((node) => node.started_at),
    ...live.running.map(({ since }) => since),
  ];
  const known = times.flatMap((time) => (time ? [Date.parse(time)] : [])).filter((time) => !Number.isNaN(time));
  return record.started_at
    ? Date.parse(record.started_at)
    : known.reduce((a, b) => Math.min(a, b), Date.parse(live.now));
}

/** Return the commands of a run, in the order of time; `RUNNING` bars end at the moment that the server told. */
export function commandsOf(run: RecordAnswer): Command[] {
  const { record, live } = run;
  if (live.is_over) return record.commands.filter((command) => command.lanes.length > 0);
  const start = startOf(run);
  const bars = barsOf(run, start);
  const earlier = record.commands.filter((command) => command.attempt < live.attempt && command.lanes.length > 0);
  if (bars.length === 0) return earlier;
  const threads = threadsOf(bars, record.nodes);
  const rows = threads ? [...threads.values()] : packed(bars);
  const names = threads ? [...threads.keys()] : rows.map((_, index) => `${index + 1}`);
  const begin = Math.min(...bars.map((bar) => bar.begin));
  const end = Math.max(...bars.map((bar) => bar.end));
  const current: Command = {
    label: earlier.length > 0 ? `attempt ${live.attempt}` : "dbt",
    attempt: live.attempt,
    dbt_version: record.dbt_version,
    started_at: record.started_at,
    finished_at: null,
    begin,
    end,
    threads: null,
    has_threads: threads !== null,
    lanes: rows.map((row, index) => ({ name: names[index] ?? "", bars: row, idle: idleSeconds(row, begin, end) })),
  };
  return [...earlier, current];
}

function barsOf({ record, live }: RecordAnswer, start: number): Bar[] {
  const since = new Map(live.running.map((entry) => [entry.node, entry.since]));
  const found: Bar[] = [];
  for (const node of record.nodes) {
    const began = since.get(node.unique_id) ?? node.started_at;
    const isRunning = since.has(node.unique_id) || node.meaning === "open";
    if (!began || (!isRunning && (!node.finished_at || (node.attempt ?? 1) !== live.attempt))) continue;
    if (node.meaning === "skipped" || (node.meaning === "not run" && !isRunning)) continue;
    const begin = secondsBetween(start, began);
    const end = secondsBetween(start, isRunning ? live.now : node.finished_at);
    if (!(end >= begin)) continue;
    found.push({
      node: node.unique_id,
      begin,
      end,
      state: isRunning ? "running" : node.state,
      meaning: isRunning ? "open" : node.meaning,
    });
  }
  return found.sort((a, b) => a.begin - b.begin || a.end - b.end || (a.node < b.node ? -1 : 1));
}

/** Return the bars of each thread of dbt; null where that of some node is not known, or the names cannot be right. */
function threadsOf(bars: readonly Bar[], nodes: readonly NodeRecord[]): Map<string, Bar[]> | null {
  const names = new Map(nodes.map((node) => [node.unique_id, node.thread]));
  const rows = new Map<string, Bar[]>();
  for (const bar of bars) {
    const name = names.get(bar.node);
    const row = rows.get(name ?? "") ?? [];
    if (!name || (row.at(-1)?.end ?? 0) > bar.begin) return null;
    rows.set(name, row);
    row.push(bar);
  }
  return new Map([...rows].sort(([a], [b]) => a.length - b.length || (a < b ? -1 : 1)));
}

/** Return rows in which no two bars overlap, as few as will do; each bar, in the order of time, goes into the first free row. */
export function packed(bars: readonly Bar[]): Bar[][] {
  const rows: Bar[][] = [];
  for (const bar of bars) {
    const free = rows.find((row) => (row.at(-1)?.end ?? 0) <= bar.begin);
    if (free) free.push(bar);
    else rows.push([bar]);
  }
  return rows;
}

/** Return for how long nothing of a lane ran between two moments. */
export function idleSeconds(bars: readonly Bar[], begin: number, end: number): number {
  return Math.max(end - begin - bars.reduce((sum, bar) => sum + bar.end - bar.begin, 0), 0);
}

export const MAIN_THREAD = "MainThread";

/** Return what a lane is called. */
export function titleOf(lane: Lane): string {
  if (lane.name === MAIN_THREAD) return "hooks";
  if (lane.name === "") return "unused thread";
  if (/^\d*$/.test(lane.name)) return `lane ${lane.name}`;
  return lane.name.split(" ")[0] ?? lane.name;
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];

/** Return the distance between the marks of an axis, of which there are to be about `count`. */
export function stepOf(span: number, count: number): number {
  const raw = Math.max(span, 1e-6) / Math.max(count, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const steps = raw >= 1 ? STEPS : [power, 2 * power, 5 * power, 10 * power];
  return steps.find((step) => step >= raw) ?? raw;
}

/** Return where the axis of a run that goes on ends: with room, so that bars move seldom. */
export function roomFor(seconds: number): number {
  const step = stepOf(seconds, 4);
  return (Math.floor(seconds / step) + 1) * step;
}

/** Return all tries of each node. */
export function triesOf(commands: readonly Command[], node: string): { label: string; bar: Bar }[] {
  return commands.flatMap((command) =>
    command.lanes.flatMap((lane) =>
      lane.bars.filter((bar) => bar.node === node).map((bar) => ({ label: command.label, bar })),
    ),
  );
}

/** Return how many seconds a node has run up to a moment. */
export const runningFor = (since: string, now: number): number => Math.max(secondsBetween(since, now), 0);
