/** What the back end sends; `dbt_watch/reporting/run_record.py` describes the record. Fields that say nothing are left out. */

export type Meaning = "success" | "warning" | "failure" | "skipped" | "not run" | "open";

export interface Column {
  name: string;
  type?: string;
  description?: string;
}

export interface Batch {
  index: number;
  status: string;
  execution_time?: number | null;
}

export interface NodeRecord {
  unique_id: string;
  name: string;
  kind: string;
  state: string;
  meaning: Meaning;
  started_at?: string | null;
  finished_at?: string | null;
  seconds?: number | null;
  rows?: number | null;
  failures?: number | null;
  message?: string | null;
  sql?: string | null;
  relation?: string | null;
  not_run?: string | null;
  because?: string[];
  batches?: Batch[];
  batch_count?: number | null;
  age?: number | null;
  attempt?: number;
  thread?: string | null;
  materialized?: string;
  path?: string;
  description?: string;
  columns?: Column[];
  tests?: string[];
  depends_on?: string[];
}

export interface Bar {
  node: string;
  begin: number;
  end: number;
  state: string;
  meaning: Meaning;
}

export interface Lane {
  name: string;
  bars: Bar[];
  idle: number;
}

export interface Command {
  label: string;
  attempt: number;
  dbt_version: string;
  started_at: string | null;
  finished_at: string | null;
  begin: number;
  end: number;
  threads: number | null;
  has_threads: boolean;
  lanes: Lane[];
}

export interface Cause {
  node: string | null;
  title: string;
  message?: string | null;
  blocked?: string[];
}

export interface RunRecord {
  source: string;
  project: string;
  outcome: "success" | "failure" | "error" | "unfinished";
  dbt_version: string;
  started_at: string | null;
  finished_at: string | null;
  nodes: NodeRecord[];
  causes: Cause[];
  commands: Command[];
  critical_path: { nodes: string[]; seconds: number } | null;
  notes: string[];
}

export type Phase = "waiting" | "pod" | "parsing" | "running" | "over";

export interface TaskState {
  task_id: string;
  map_index: number;
  state: string | null;
  try_number: number;
}

export interface Counts {
  done: number;
  running: number;
  waiting: number;
  failed: number;
  warned: number;
  skipped: number;
  total: number;
}

export interface Live {
  is_over: boolean;
  phase: Phase;
  phase_text: string;
  now: string;
  running: { node: string; since: string }[];
  counts: Counts;
  estimated_end: string | null;
  attempt: number;
  tasks: Record<string, TaskState>;
  sources: string[];
  notes: string[];
}

export interface RecordAnswer {
  version: number;
  record: RunRecord;
  live: Live;
}

export interface Changes {
  version: number;
  nodes?: NodeRecord[];
  live?: Live;
  reset?: boolean;
}

export interface Run {
  run_id: string;
  state: string;
  started_at: string | null;
  ended_at: string | null;
}

export interface ProjectEntry {
  group_id: string;
  map_index: number;
  label: string;
  producers: string[];
}

export interface ProjectsAnswer {
  dag_id: string;
  run_id: string;
  run_state: string;
  projects: ProjectEntry[];
  selected: { group_id: string; map_index: number; node: string | null } | null;
}

export interface HistoryAnswer {
  runs: string[];
  nodes: Record<string, { seconds: (number | null)[]; median: number | null }>;
}

export interface LogLine {
  at: string | null;
  level: string;
  text: string;
}

export interface Attempt {
  attempt?: number;
  state?: string;
  meaning?: Meaning;
  seconds?: number | null;
  started_at?: string | null;
  message?: string | null;
}

export interface NodeAnswer {
  unique_id: string;
  log: LogLine[];
  sql_sent: string | null;
  task_url: string | null;
  attempts: Attempt[];
}

/** What only a manifest and dbt's artifacts know of a node. */
export interface NodeFiles {
  unique_id: string;
  compiled_sql?: string;
  compiled_from?: string;
  compiled_missing?: string;
  columns?: Column[];
  columns_from?: string;
}
