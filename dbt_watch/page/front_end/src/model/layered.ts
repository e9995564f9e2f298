/**
 * Where the nodes of a lineage stand: in layers from left to right, each node right of all that it depends on.
 *
 * In place of an exact solution, which takes minutes for thousands of nodes, this sorts each layer by its neighbours a few times
 * and then moves nodes towards them. A layer of very many nodes is broken into several columns, so that the whole stays about as
 * wide as it is high.
 */

export interface Size {
  id: string;
  width: number;
}

export interface Place {
  x: number;
  y: number;
}

const ROW = 38;
const GAP = 64;
const SWEEPS = 6;
/** A layer of more nodes than this may be broken. */
const TALL = 60;

export function placesOf(nodes: readonly Size[], edges: readonly { from: string; to: string }[]): Map<string, Place> {
  const index = new Map(nodes.map((node, position) => [node.id, position]));
  const parents: number[][] = nodes.map(() => []);
  const children: number[][] = nodes.map(() => []);
  for (const edge of edges) {
    const from = index.get(edge.from);
    const to = index.get(edge.to);
    if (from === undefined || to === undefined || from === to) continue;
    parents[to]?.push(from);
    children[from]?.push(to);
  }
  const depth = depthsOf(parents, children);
  const isAlone = (node: number) => parents[node]?.length === 0 && children[node]?.length === 0;
  const layers: number[][] = [];
  const alone: number[] = [];
  for (let node = 0; node < nodes.length; node++) {
    if (isAlone(node)) {
      alone.push(node);
      continue;
    }
    const at = depth[node] ?? 0;
    while (layers.length <= at) layers.push([]);
    layers[at]?.push(node);
  }
  sortLayers(layers, parents, children);
  const tallest = Math.max(TALL, Math.ceil(Math.sqrt(nodes.length * 2.2)));
  const columns = layers.flatMap((layer) => broken(layer, tallest));
  const y = heights(columns, parents, children);
  const places = new Map<string, Place>();
  let x = 0;
  for (const column of columns) {
    const width = Math.max(...column.map((node) => nodes[node]?.width ?? 0));
    for (const node of column) places.set(nodes[node]?.id ?? "", { x: x + width / 2, y: y[node] ?? 0 });
    x += width + GAP;
  }
  placeAlone(alone, nodes, places, x);
  return places;
}

/** Return the length of the longest chain before each node; a node of a circle, which dbt does not allow, counts as the first. */
function depthsOf(parents: readonly number[][], children: readonly number[][]): number[] {
  const left = parents.map((all) => all.length);
  const depth = parents.map(() => 0);
  const ready = left.flatMap((count, node) => (count === 0 ? [node] : []));
  for (let node = ready.pop(); node !== undefined; node = ready.pop()) {
    for (const child of children[node] ?? []) {
      depth[child] = Math.max(depth[child] ?? 0, (depth[node] ?? 0) + 1);
      left[child] = (left[child] ?? 0) - 1;
      if (left[child] === 0) ready.push(child);
    }
  }
  // What nothing comes before stands close to what needs it, not at the far left.
  for (let node = 0; node < parents.length; node++) {
    const next = children[node] ?? [];
    if (parents[node]?.length !== 0 || next.length === 0) continue;
    depth[node] = Math.max(Math.min(...next.map((child) => depth[child] ?? 0)) - 1, 0);
  }
  return depth;
}

/** Sort each layer by where the neighbours of its nodes are. */
function sortLayers(layers: number[][], parents: readonly number[][], children: readonly number[][]): void {
  const position: number[] = [];
  const number = (layer: readonly number[]) => {
    layer.forEach((node, at) => {
      position[node] = (at + 0.5) / layer.length;
    });
  };
  layers.forEach(number);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const forwards = sweep % 2 === 0;
    const neighbours = forwards ? parents : children;
    for (const layer of forwards ? layers : [...layers].reverse()) {
      const wanted = new Map(
        layer.map((node) => [node, mean(neighbours[node] ?? [], position) ?? position[node] ?? 0]),
      );
      layer.sort((a, b) => (wanted.get(a) ?? 0) - (wanted.get(b) ?? 0));
      number(layer);
    }
  }
}

function mean(nodes: readonly number[], values: readonly number[]): number | undefined {
  if (nodes.length === 0) return undefined;
  return nodes.reduce((sum, node) => sum + (values[node] ?? 0), 0) / nodes.length;
}

function broken(layer: number[], tallest: number): number[][] {
  if (layer.length <= tallest * 1.5) return [layer];
  const count = Math.ceil(layer.length / tallest);
  const size = Math.ceil(layer.length / count);
  return Array.from({ length: count }, (_, at) => layer.slice(at * size, (at + 1) * size)).filter(
    (part) => part.length > 0,
  );
}

function heights(columns: readonly number[][], parents: readonly number[][], children: readonly number[][]): number[] {
  const y: number[] = [];
  for (const column of columns) {
    column.forEach((node, at) => {
      y[node] = (at - (column.length - 1) / 2) * ROW;
    });
  }
  for (const [neighbours, order] of [
    [parents, columns],
    [children, [...columns].reverse()],
    [parents, columns],
  ] as const) {
    for (const column of order) {
      const wanted = column.map((node) => mean(neighbours[node] ?? [], y) ?? y[node] ?? 0);
      spread(wanted, ROW).forEach((value, at) => {
        const node = column[at];
        if (node !== undefined) y[node] = value;
      });
    }
  }
  return y;
}

/** Return the values that are nearest to the wanted ones, by least squares, in the same order and no nearer to each other than `gap`. */
export function spread(wanted: readonly number[], gap: number): number[] {
  // Without the gaps it is the question for the nearest values that do not fall: neighbours that would, share their mean.
  const blocks: { sum: number; count: number }[] = [];
  wanted.forEach((value, at) => {
    blocks.push({ sum: value - at * gap, count: 1 });
    for (;;) {
      const last = blocks.at(-1);
      const before = blocks.at(-2);
      if (!last || !before || before.sum / before.count <= last.sum / last.count) break;
      before.sum += last.sum;
      before.count += last.count;
      blocks.pop();
    }
  });
  const values = blocks.flatMap((block) => Array.from({ length: block.count }, () => block.sum / block.count));
  return values.map((value, at) => value + at * gap);
}

/** Put the nodes that nothing is known to depend on, or to need, below the others. */
function placeAlone(alone: readonly number[], nodes: readonly Size[], places: Map<string, Place>, width: number): void {
  const lowest = [...places.values()].reduce((low, place) => Math.max(low, place.y), 0);
  let x = 0;
  let y = places.size > 0 ? lowest + 2 * ROW : 0;
  const limit = Math.max(width, Math.sqrt(alone.length) * 260, 600);
  for (const node of alone) {
    const own = nodes[node]?.width ?? 0;
    if (x > 0 && x + own > limit) {
      x = 0;
      y += ROW;
    }
    places.set(nodes[node]?.id ?? "", { x: x + own / 2, y });
    x += own + 16;
  }
}
