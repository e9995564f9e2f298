/** What several components need of the run. */
import { useEffect, useState } from "react";
import { go, useStore } from "../data/store";
import { type Look, lookOf } from "../model/looks";
import type { Live, NodeRecord, RecordAnswer } from "../types";

export const useRun = (): RecordAnswer => {
  const run = useStore((state) => state.run);
  if (run === null) throw new Error("no run is known yet");
  return run;
};

/** Return a function that computes something once for each object, however many components ask. */
function once<From extends object, To>(compute: (from: From) => To): (from: From) => To {
  const known = new WeakMap<From, To>();
  return (from) => {
    const found = known.get(from) ?? compute(from);
    known.set(from, found);
    return found;
  };
}

const byKey = once(
  (nodes: NodeRecord[]): ReadonlyMap<string, NodeRecord> => new Map(nodes.map((node) => [node.unique_id, node])),
);
const looks = once((live: Live): ((node: NodeRecord) => Look) => lookOf(live));

/** Return the nodes of the run by their key. */
export const useNodes = (): ReadonlyMap<string, NodeRecord> => byKey(useRun().record.nodes);

/** Return a function that tells what a node looks like. */
export const useLook = (): ((node: NodeRecord) => Look) => looks(useRun().live);

/** Return the server's time, in milliseconds, each second anew while the run goes on. */
export function useServerNow(): number {
  const isOver = useStore((state) => state.run?.live.is_over ?? true);
  const ahead = useStore((state) => state.clockAhead);
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (isOver) return;
    setNow(Date.now());
    const timer = setInterval(() => {
      if (!document.hidden) setNow(Date.now());
    }, 1000);
    return () => clearInterval(timer);
  }, [isOver]);
  return now + ahead;
}

export const openNode = (id: string): void => go({ node: id });

/** Return whether a query of the screen holds. */
export function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => window.matchMedia(query).matches);
  useEffect(() => {
    const media = window.matchMedia(query);
    const update = () => setMatches(media.matches);
    update();
    media.addEventListener("change", update);
    return () => media.removeEventListener("change", update);
  }, [query]);
  return matches;
}
