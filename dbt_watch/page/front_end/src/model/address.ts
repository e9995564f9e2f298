/** What the address of the page says, so that what one sees can be sent to others. */
import { FILTERS, type Filter } from "./table";

export const VIEWS = ["now", "why", "timeline", "graph", "table"] as const;
export type View = (typeof VIEWS)[number];

export interface Address {
  dagId: string;
  runId: string;
  project: string;
  mapIndex: string;
  taskId: string;
  /** The view that was chosen; null leaves it to the state of the run. */
  view: View | null;
  node: string | null;
  filter: Filter;
  search: string;
  sort: string;
}

function oneOf<T extends string>(words: readonly T[], word: string | null): T | null {
  return words.find((candidate) => candidate === word) ?? null;
}

/** Airflow leaves these in an address where it has no value. */
const PLACEHOLDER = /^\{[A-Z_]+\}$/;

export function addressIn(query: string): Address {
  // Airflow 3.1 writes the id of a run as it is, and most have a `+` in their time; here nobody writes a blank as one.
  const params = new URLSearchParams(query.replaceAll("+", "%2B"));
  const given = (key: string) => (params.get(key) ?? "").replace(PLACEHOLDER, "");
  return {
    dagId: given("dag_id"),
    runId: given("run_id"),
    project: given("project"),
    mapIndex: given("map_index"),
    taskId: given("task_id"),
    view: oneOf(VIEWS, params.get("view")),
    node: params.get("node") || null,
    filter: oneOf(FILTERS, params.get("filter")) ?? "all",
    search: params.get("q") ?? "",
    sort: params.get("sort") ?? "",
  };
}

export function queryOf(address: Address): string {
  const entries: [string, string | null][] = [
    ["dag_id", address.dagId],
    ["run_id", address.runId],
    ["project", address.project],
    ["map_index", address.mapIndex === "-1" ? "" : address.mapIndex],
    ["task_id", address.taskId],
    ["view", address.view],
    ["node", address.node],
    ["filter", address.filter === "all" ? "" : address.filter],
    ["q", address.search],
    ["sort", address.sort],
  ];
  const params = new URLSearchParams(entries.filter((entry): entry is [string, string] => Boolean(entry[1])));
  return `?${params.toString().replaceAll("+", "%20")}`;
}
