/** Computes where the nodes of the graph stand, beside the page, which goes on answering. */
import { placesOf, type Size } from "./layered";

export interface LayoutQuestion {
  nodes: Size[];
  edges: { from: string; to: string }[];
  number: number;
}

export interface LayoutAnswer {
  places: [string, { x: number; y: number }][];
  number: number;
}

self.onmessage = (event: MessageEvent<LayoutQuestion>) => {
  const { nodes, edges, number } = event.data;
  const answer: LayoutAnswer = { places: [...placesOf(nodes, edges)], number };
  self.postMessage(answer);
};
