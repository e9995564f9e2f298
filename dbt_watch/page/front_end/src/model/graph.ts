/** The lineage as the graph shows it: which nodes, and what depends on what. */
import type { NodeRecord } from "../types";
import type { Look } from "./looks";

const TESTS = new Set(["test", "unit_test"]);
const HOOKS = new Set(["operation"]);

export interface Edge {
  from: string;
  to: string;
}

export interface Lineage {
  nodes: NodeRecord[];
  edges: Edge[];
  parents: Map<string, string[]>;
  children: Map<string, string[]>;
}

/**
 * Return the lineage.
 *
 * @param withTests false leaves out the tests that went well
 * @param about only these nodes, where it is not null
 */
export function lineageOf(
  all: readonly NodeRecord[],
  look: (node: NodeRecord) => Look,
  withTests: boolean,
  about: ReadonlySet<string> | null = null,
): Lineage {
  const bad: ReadonlySet<Look> = new Set<Look>(["failure", "warning"]);
  const nodes = all.filter((node) => {
    if (HOOKS.has(node.kind) || (about !== null && !about.has(node.unique_id))) return false;
    return withTests || !TESTS.has(node.kind) || bad.has(look(node));
  });
  const shown = new Set(nodes.map((node) => node.unique_id));
  const edges: Edge[] = [];
  const parents = new Map<string, string[]>(nodes.map((node) => [node.unique_id, []]));
  const children = new Map<string, string[]>(nodes.map((node) => [node.unique_id, []]));
  for (const node of nodes) {
    for (const parent of new Set(node.depends_on)) {
      if (!shown.has(parent) || parent === node.unique_id) continue;
      edges.push({ from: parent, to: node.unique_id });
      parents.get(node.unique_id)?.push(parent);
      children.get(parent)?.push(node.unique_id);
    }
  }
  return { nodes, edges, parents, children };
}

/** Return a node with all that is before it and after it. */
export function around(lineage: Pick<Lineage, "parents" | "children">, node: string): Set<string> {
  const found = new Set([node]);
  for (const next of [lineage.parents, lineage.children]) {
    const seen = new Set([node]);
    const waiting = [node];
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
      for (const other of next.get(at) ?? []) {
        if (seen.has(other)) continue;
        seen.add(other);
        found.add(other);
        waiting.push(other);
      }
    }
  }
  return found;
}
