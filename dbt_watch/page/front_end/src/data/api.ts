/** Asks the back end. All addresses are relative to the page's own, since a proxy may put a prefix in front of everything. */
import type { Changes, HistoryAnswer, NodeAnswer, NodeFiles, ProjectsAnswer, RecordAnswer, Run } from "../types";

/** One run of one project: what most questions are about. */
export interface Place {
  dag_id: string;
  run_id: string;
  project: string;
  map_index: number;
}

export class ApiError extends Error {
  readonly status: number;

  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }

  /** Whether asking again does not help. */
  get isFinal(): boolean {
    return this.status === 401 || this.status === 403 || this.status === 404;
  }
}

type Params = Record<string, string | number | undefined>;

export function addressOf(path: string, params: Params): string {
  const entries = Object.entries(params).filter(([, value]) => value !== undefined && value !== "");
  const query = new URLSearchParams(entries.map(([key, value]) => [key, String(value)]));
  return `api/${path}?${query}`;
}

export async function failureOf(response: Response): Promise<ApiError> {
  let detail = "";
  try {
    const answer: unknown = await response.json();
    if (answer && typeof answer === "object" && "detail" in answer) detail = String(answer.detail);
  } catch {
    // A proxy's page of its own says nothing that is of use here.
  }
  return new ApiError(response.status, detail || defaultDetail(response.status));
}

function defaultDetail(status: number): string {
  if (status === 401) return "You are not logged in, or no longer. Log in to Airflow and load this page again.";
  if (status === 403) return "You may not see the runs of this DAG.";
  if (status === 404) return "There is no such run.";
  return `The server answered with status ${status}.`;
}

async function ask<T>(path: string, params: Params, signal?: AbortSignal): Promise<T> {
  const response = await fetch(addressOf(path, params), {
    signal: signal ?? null,
    credentials: "same-origin",
    headers: { Accept: "application/json" },
  });
  if (!response.ok) throw await failureOf(response);
  return (await response.json()) as T;
}

const params = (place: Place): Params => ({ ...place });

export const api = {
  runs: (dagId: string, signal?: AbortSignal) => ask<{ runs: Run[] }>("runs", { dag_id: dagId, limit: 20 }, signal),
  projects: (query: { dag_id: string; run_id: string; task_id?: string; map_index?: string }, signal?: AbortSignal) =>
    ask<ProjectsAnswer>("projects", query, signal),
  record: (place: Place, signal?: AbortSignal) => ask<RecordAnswer>("record", params(place), signal),
  changes: (place: Place, since: number, signal?: AbortSignal) => ask<Changes>("changes", { ...place, since }, signal),
  history: (place: Place, signal?: AbortSignal) => ask<HistoryAnswer>("history", params(place), signal),
  node: (place: Place, node: string, signal?: AbortSignal) => ask<NodeAnswer>("node", { ...place, node }, signal),
  files: (place: Place, node: string, signal?: AbortSignal) => ask<NodeFiles>("files", { ...place, node }, signal),
};
