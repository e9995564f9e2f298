/** Which nodes the table shows, and in which order. */
import type { HistoryAnswer, NodeRecord } from "../types";
import { isEphemeral, LOOKS, type Look } from "./looks";

export const FILTERS = ["all", "failed", "warned", "unbuilt", "running", "slowest", "changed"] as const;
export type Filter = (typeof FILTERS)[number];

export const TITLES: Readonly<Record<Filter, string>> = {
  all: "All",
  failed: "Failed",
  warned: "Warned",
  unbuilt: "Not built",
  running: "Running",
  slowest: "Slowest",
  changed: "Changed",
};

const SLOWEST = 50;
// As in the report: a node has changed if its time differs by a second and a tenth of what it was.
const CHANGED_SECONDS = 1;
const CHANGED_SHARE = 0.1;

export interface Row {
  id: string;
  node: NodeRecord;
  look: Look;
  before: number | null;
  /** Seconds more than the median; null where there is none. */
  change: number | null;
  isChanged: boolean;
}

export function rowsOf(
  nodes: readonly NodeRecord[],
  look: (node: NodeRecord) => Look,
  history: HistoryAnswer | null,
): Row[] {
  return nodes.map((node) => {
    const before = history?.nodes[node.unique_id]?.median ?? null;
    const change = before !== null && node.seconds != null ? node.seconds - before : null;
    const isChanged =
      change !== null && Math.abs(change) >= CHANGED_SECONDS && Math.abs(change) >= CHANGED_SHARE * (before ?? 0);
    return { id: node.unique_id, node, look: look(node), before, change, isChanged };
  });
}

/** Return what each filter keeps. */
export function keepers(rows: readonly Row[]): Record<Filter, (row: Row) => boolean> {
  const slowest = new Set(
    rows
      .filter((row) => row.node.seconds != null)
      .sort((a, b) => (b.node.seconds ?? 0) - (a.node.seconds ?? 0))
      .slice(0, SLOWEST)
      .map((row) => row.id),
  );
  return {
    all: () => true,
    failed: (row) => row.look === "failure",
    warned: (row) => row.look === "warning",
    unbuilt: (row) => row.look === "skipped" || (row.look === "not run" && !isEphemeral(row.node)),
    running: (row) => row.look === "running",
    slowest: (row) => slowest.has(row.id),
    changed: (row) => row.isChanged,
  };
}

/** Return a function that says whether a row has all words of a search. */
export function searcher(search: string): (row: Row) => boolean {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return () => true;
  return ({ node }) => {
    const text = [node.unique_id, node.name, node.kind, node.state, node.path, node.message].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  };
}

export const COLUMNS = ["name", "kind", "state", "seconds", "change", "rows", "failures", "message"] as const;
export type ColumnKey = (typeof COLUMNS)[number];

export const NUMBERS: ReadonlySet<string> = new Set<ColumnKey>(["seconds", "change", "rows", "failures"]);

/** Return what a column sorts by; undefined for what says nothing, which comes last in either order. */
export function sortValue(row: Row, column: ColumnKey): string | number | undefined {
  switch (column) {
    case "name":
      return row.node.name;
    case "kind":
      return row.node.kind;
    case "state":
      return LOOKS.indexOf(row.look);
    case "change":
      return row.change ?? undefined;
    case "message":
      return row.node.message ?? undefined;
    default:
      return row.node[column] ?? undefined;
  }
}
