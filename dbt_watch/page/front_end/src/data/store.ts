/** What the page knows, and how it comes to know it. Components read it with `useStore`. */
import { useSyncExternalStore } from "react";
import { type Address, addressIn, queryOf } from "../model/address";
import { applied, gathered, type Pending } from "../model/changes";
import type { Changes, HistoryAnswer, ProjectEntry, ProjectsAnswer, RecordAnswer, Run } from "../types";
import { ApiError, api, type Place } from "./api";
import { Connection, type Link } from "./connection";

export interface State {
  address: Address;
  projects: ProjectsAnswer | null;
  project: ProjectEntry | null;
  place: Place | null;
  runs: Run[];
  run: RecordAnswer | null;
  history: HistoryAnswer | null;
  link: Link;
  error: string | null;
  isLoading: boolean;
  /** By how many milliseconds the server's clock is ahead of this one's. */
  clockAhead: number;
}

let state: State = {
  address: addressIn(location.search),
  projects: null,
  project: null,
  place: null,
  runs: [],
  run: null,
  history: null,
  link: "off",
  error: null,
  isLoading: true,
  clockAhead: 0,
};

const listeners = new Set<() => void>();
let connection: Connection | null = null;
let loading = new AbortController();
let pending: Pending | null = null;
let frame: number | null = null;

function set(part: Partial<State>): void {
  state = { ...state, ...part };
  for (const listener of listeners) listener();
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function useStore<T>(select: (state: State) => T): T {
  return useSyncExternalStore(subscribe, () => select(state));
}

export const currentAddress = (): Address => state.address;

/** Go to another place of the page; `replace` for what is not worth a step back. */
export function go(part: Partial<Address>, replace = false): void {
  const before = state.address;
  const address = { ...before, ...part };
  const query = queryOf(address);
  if (query === queryOf(before)) return;
  remember(query, replace);
  arrive(address);
}

/** Put what is seen into the address. */
function remember(query: string, replace: boolean): void {
  try {
    if (replace) history.replaceState(null, "", query);
    else history.pushState(null, "", query);
  } catch {
    // Browsers refuse it when it comes too often, as it may while one types.
  }
}

function arrive(address: Address): void {
  const before = state.address;
  set({ address });
  const isElsewhere = (["dagId", "runId", "project", "mapIndex"] as const).some((key) => address[key] !== before[key]);
  if (isElsewhere) void load();
}

/** Go to another run, or another project of it; what one looks at stays the same. */
export function goToRun(part: Pick<Partial<Address>, "runId" | "project" | "mapIndex">): void {
  go({ ...part, taskId: "" });
}

/** How often it is asked whether a run that was over goes on, in milliseconds. */
const LOOK_AGAIN_EVERY = 60_000;

export function start(): void {
  window.addEventListener("popstate", () => arrive(addressIn(location.search)));
  const look = () => {
    if (!document.hidden && state.run?.live.is_over && state.place) void lookAgain(state.place);
  };
  document.addEventListener("visibilitychange", look);
  setInterval(look, LOOK_AGAIN_EVERY);
  void load();
}

/** Fetch the record of a run that was over, if it goes on, as after a task was cleared. */
async function lookAgain(place: Place): Promise<void> {
  try {
    const { live, reset } = await api.changes(place, state.run?.version ?? 0);
    let goesOn = live !== undefined && !live.is_over;
    if (reset) {
      // Another process of the server does not know what this one has seen.
      const { run_state } = await api.projects({ dag_id: place.dag_id, run_id: place.run_id });
      goesOn = run_state === "running" || run_state === "queued";
    }
    if (goesOn && place === state.place) await loadRecord(place);
  } catch {
    // What is shown stays as it is.
  }
}

function failed(error: unknown): void {
  if (error instanceof DOMException && error.name === "AbortError") return;
  const text = error instanceof ApiError ? error.message : "The server cannot be reached.";
  set({ error: text, isLoading: false });
}

export async function load(): Promise<void> {
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  connection?.close();
  connection = null;
  const { dagId, runId, project, mapIndex, taskId } = state.address;
  set({ isLoading: true, error: null, history: null });
  try {
    if (!dagId) throw new ApiError(404, "The address names no DAG.");
    const projects = await api.projects({ dag_id: dagId, run_id: runId, task_id: taskId, map_index: mapIndex }, signal);
    const chosen = choose(projects, project, mapIndex);
    const address = { ...state.address };
    address.runId = projects.run_id || runId;
    if (chosen) address.project = chosen.group_id;
    if (chosen && chosen.map_index >= 0) address.mapIndex = String(chosen.map_index);
    if (taskId && !address.node && projects.selected?.node) address.node = projects.selected.node;
    address.taskId = "";
    remember(queryOf(address), true);
    const place = chosen && {
      dag_id: dagId,
      run_id: address.runId,
      project: chosen.group_id,
      map_index: chosen.map_index,
    };
    set({ address, projects, project: chosen, place, run: place ? state.run : null });
    void api.runs(dagId, signal).then(
      ({ runs }) => set({ runs }),
      () => undefined,
    );
    if (!place) {
      set({ isLoading: false });
      return;
    }
    await loadRecord(place, signal);
    void api.history(place, signal).then(
      (answer) => set({ history: answer }),
      () => undefined,
    );
  } catch (error) {
    failed(error);
  }
}

function choose(answer: ProjectsAnswer, project: string, mapIndex: string): ProjectEntry | null {
  const index = mapIndex === "" ? null : Number(mapIndex);
  const selected = answer.selected;
  const is = (group: string, at: number | null) => (entry: ProjectEntry) =>
    entry.group_id === group && (at === null || entry.map_index === at);
  return (
    (project ? answer.projects.find(is(project, index)) : undefined) ??
    (selected ? answer.projects.find(is(selected.group_id, selected.map_index)) : undefined) ??
    (project ? answer.projects.find(is(project, null)) : undefined) ??
    answer.projects[0] ??
    null
  );
}

async function loadRecord(place: Place, signal?: AbortSignal): Promise<void> {
  const run = await api.record(place, signal);
  if (place !== state.place) return;
  pending = null;
  set({ run, isLoading: false, error: null, clockAhead: Date.parse(run.live.now) - Date.now() || 0 });
  if (run.live.is_over) {
    connection?.close();
    connection = null;
  } else {
    connection ??= connect(place);
  }
}

function connect(place: Place): Connection {
  return new Connection(place, () => pending?.version ?? state.run?.version ?? 0, {
    onChanges: (changes) => {
      if (changes.live?.is_over) void loadRecord(place).catch(failed);
      else later(changes);
    },
    onReset: () => void loadRecord(place).catch(failed),
    onLink: (link) => {
      if (state.link !== link) set({ link });
    },
    onFailure: failed,
  });
}

/** Show changes with the next frame, all that have come until then at once. */
function later(changes: Changes): void {
  pending = gathered(pending, changes);
  if (document.hidden) flush();
  else frame ??= requestAnimationFrame(flush);
}

function flush(): void {
  if (frame !== null) cancelAnimationFrame(frame);
  frame = null;
  if (!pending || !state.run) return;
  const run = applied(state.run, pending);
  pending = null;
  set({ run, clockAhead: Date.parse(run.live.now) - Date.now() || 0 });
}
