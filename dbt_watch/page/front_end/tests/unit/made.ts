/** Runs for the tests. */
import type { Live, NodeRecord, RecordAnswer, RunRecord } from "../../src/types";

export const START = "2026-11-21T12:00:00Z";

export const at = (seconds: number): string => new Date(Date.parse(START) + seconds * 1000).toISOString();

export function node(name: string, more: Partial<NodeRecord> = {}): NodeRecord {
  return { unique_id: `model.shop.${name}`, name, kind: "model", state: "not run", meaning: "not run", ...more };
}

/** Return a node that ran from one second of the run to another. */
export function ran(name: string, begin: number, end: number, more: Partial<NodeRecord> = {}): NodeRecord {
  return node(name, {
    state: "success",
    meaning: "success",
    started_at: at(begin),
    finished_at: at(end),
    seconds: end - begin,
    ...more,
  });
}

export function live(more: Partial<Live> = {}): Live {
  return {
    is_over: false,
    phase: "running",
    phase_text: "",
    now: at(100),
    running: [],
    counts: { done: 0, running: 0, waiting: 0, failed: 0, warned: 0, skipped: 0, total: 0 },
    estimated_end: null,
    attempt: 1,
    tasks: {},
    sources: ["journal"],
    notes: [],
    ...more,
  };
}

export function run(
  nodes: NodeRecord[],
  more: { record?: Partial<RunRecord>; live?: Partial<Live> } = {},
): RecordAnswer {
  return {
    version: 1,
    live: live(more.live),
    record: {
      source: "a test",
      project: "shop",
      outcome: "unfinished",
      dbt_version: "1.12.0",
      started_at: START,
      finished_at: null,
      nodes,
      causes: [],
      commands: [],
      critical_path: null,
      notes: [],
      ...more.record,
    },
  };
}
