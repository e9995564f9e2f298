/** What a node looks like: its meaning, and while dbt runs, whether it runs or waits. */
import type { Live, NodeRecord } from "../types";

export type Look = "failure" | "warning" | "success" | "running" | "skipped" | "waiting" | "not run" | "open";

/** In the order in which they are of interest. */
export const LOOKS: readonly Look[] = [
  "failure",
  "warning",
  "running",
  "success",
  "skipped",
  "not run",
  "open",
  "waiting",
];

export const WORDS: Readonly<Record<Look, string>> = {
  failure: "failed",
  warning: "warned",
  success: "succeeded",
  running: "running",
  skipped: "skipped",
  waiting: "waiting",
  "not run": "not run",
  open: "not finished",
};

/** A sign beside the colour, for who does not see it. */
export const SIGNS: Readonly<Record<Look, string>> = {
  failure: "✕",
  warning: "!",
  success: "✓",
  running: "▶",
  skipped: "↷",
  waiting: "○",
  "not run": "–",
  open: "…",
};

export const classOf = (look: Look): string => look.replace(" ", "-");

/** Return a function that tells the look of a node. */
export function lookOf(live: Live): (node: NodeRecord) => Look {
  if (live.is_over) return (node) => node.meaning;
  const running = new Set(live.running.map(({ node }) => node));
  return (node) => {
    if (running.has(node.unique_id)) return "running";
    if (node.meaning === "open") return node.started_at ? "running" : "waiting";
    if (node.meaning === "not run" && !node.not_run) return "waiting";
    return node.meaning;
  };
}

/** Return the word to show: dbt's own, but for a node that dbt has not come to. */
export function wordOf(node: NodeRecord, look: Look): string {
  return look === "waiting" || look === "running" ? WORDS[look] : node.state;
}

/** Whether there is nothing to build of a node: its SQL becomes part of others. */
export const isEphemeral = (node: NodeRecord): boolean => node.not_run === "ephemeral";
