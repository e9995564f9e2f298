/** How changes become part of what is known of a run. */
import type { Changes, Live, NodeRecord, RecordAnswer } from "../types";

export interface Pending {
  version: number;
  nodes: Map<string, NodeRecord>;
  live: Changes["live"];
}

/** Return changes together with those that wait to be shown; the later word on a node counts. */
export function gathered(pending: Pending | null, changes: Changes): Pending {
  const nodes = pending?.nodes ?? new Map<string, NodeRecord>();
  for (const node of changes.nodes ?? []) nodes.set(node.unique_id, node);
  return { version: changes.version, nodes, live: withTasks(pending?.live, changes.live) };
}

/** Return what is newer, with the tasks of both: a change names only the tasks whose state is another. */
function withTasks(before: Live | undefined, after: Live | undefined): Live | undefined {
  if (!after || !before) return after ?? before;
  const hasNone = Object.keys(after.tasks ?? {}).length === 0;
  return { ...after, tasks: hasNone ? before.tasks : { ...before.tasks, ...after.tasks } };
}

/** Return a run with changes; nodes that did not change stay the same objects. */
export function applied(run: RecordAnswer, pending: Pending): RecordAnswer {
  const { version } = pending;
  const live = withTasks(run.live, pending.live) ?? run.live;
  if (pending.nodes.size === 0) return { ...run, version, live };
  const left = new Map(pending.nodes);
  const nodes = run.record.nodes.map((node) => {
    const changed = left.get(node.unique_id);
    if (changed === undefined) return node;
    left.delete(node.unique_id);
    // What a manifest says of a node does not change while dbt runs, so changes may leave it out.
    return { ...stable(node), ...changed };
  });
  const all = [...nodes, ...left.values()];
  return { version, live, record: { ...run.record, nodes: all, started_at: run.record.started_at ?? firstStart(all) } };
}

/** Return when the first node began; null where none has. */
function firstStart(nodes: readonly NodeRecord[]): string | null {
  let first: string | null = null;
  for (const { started_at: began } of nodes) {
    if (began && (first === null || Date.parse(began) < Date.parse(first))) first = began;
  }
  return first;
}

function stable(node: NodeRecord): Partial<NodeRecord> {
  const { path, description, columns, tests, depends_on, materialized, relation } = node;
  return { path, description, columns, tests, depends_on, materialized, relation };
}
