/** The table as CSV, as `dbt_watch/reporting/tables.py` writes it. */
import type { HistoryAnswer, NodeRecord } from "../types";

const HEADS = [
  "unique_id",
  "name",
  "kind",
  "state",
  "seconds",
  "seconds_before",
  "change",
  "rows",
  "failures",
  "attempt",
  "started_at",
  "finished_at",
  "file",
  "message",
];

/** Return a text that no spreadsheet takes for a formula. */
export const harmless = (text: string): string => (/^[\s]*[=+\-@\t\r]/.test(text) ? `'${text}` : text);

const quoted = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

const decimals = (value: number | null | undefined): string => value?.toFixed(3) ?? "";

export function csvOf(nodes: readonly NodeRecord[], history: HistoryAnswer | null): string {
  const lines = [HEADS];
  for (const node of nodes) {
    const before = history?.nodes[node.unique_id]?.median;
    const difference = before != null && node.seconds != null ? node.seconds - before : null;
    lines.push([
      harmless(node.unique_id),
      harmless(node.name),
      harmless(node.kind),
      harmless(node.state),
      decimals(node.seconds),
      decimals(before),
      decimals(difference),
      String(node.rows ?? ""),
      String(node.failures ?? ""),
      String(node.attempt ?? 1),
      node.started_at ?? "",
      node.finished_at ?? "",
      harmless(node.path ?? ""),
      harmless(node.message ?? ""),
    ]);
  }
  return lines.map((line) => `${line.map(quoted).join(",")}\r\n`).join("");
}
