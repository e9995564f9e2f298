/** Why a run did not go well: what the record says once it is over, and until then what the nodes tell. */
import type { Cause, NodeRecord, RecordAnswer } from "../types";

const CANCELLED = "cancelled";

export function causesOf({ record, live }: RecordAnswer): Cause[] {
  return live.is_over ? record.causes : causesSoFar(record.nodes);
}

/** Return the nodes that failed by themselves, what kept the most others from being built first. */
export function causesSoFar(nodes: readonly NodeRecord[]): Cause[] {
  const own = nodes.filter((node) => node.meaning === "failure" && node.state !== CANCELLED);
  const blocked = new Map<string, string[]>(own.map((node) => [node.unique_id, []]));
  for (const node of nodes) {
    if (node.meaning !== "skipped") continue;
    const [only] = own;
    const because = node.because?.length ? node.because : own.length === 1 && only ? [only.unique_id] : [];
    for (const cause of because) blocked.get(cause)?.push(node.unique_id);
  }
  return own
    .map((node) => ({
      node: node.unique_id,
      title: `${node.name}: ${node.state}`,
      blocked: blocked.get(node.unique_id) ?? [],
    }))
    .sort((a, b) => b.blocked.length - a.blocked.length);
}
