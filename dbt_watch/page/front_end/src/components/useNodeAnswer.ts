/** Asks the back end for what only a node's own view shows: its log and its SQL. */
import { useEffect, useState } from "react";
import { ApiError, api, type Place } from "../data/api";
import { useStore } from "../data/store";
import type { NodeAnswer, NodeRecord } from "../types";

export interface Asked {
  answer: NodeAnswer | null;
  error: string | null;
}

const NOTHING: Asked = { answer: null, error: null };
const KEPT = 50;
const cache = new Map<string, NodeAnswer>();

const keyOf = (place: Place, id: string, state: string) => JSON.stringify([place, id, state]);

/** Return what is known of a node; it is asked anew when the node's state has changed. */
export function useNodeAnswer(id: string, node: NodeRecord | undefined, isWanted = true): Asked {
  const place = useStore((state) => state.place);
  const key = place ? keyOf(place, id, `${node?.state} ${node?.attempt ?? 1}`) : "";
  const [asked, setAsked] = useState<Asked>(NOTHING);
  useEffect(() => {
    if (!place || !isWanted || !key) return;
    const known = cache.get(key);
    if (known) {
      setAsked({ answer: known, error: null });
      return;
    }
    const abort = new AbortController();
    api.node(place, id, abort.signal).then(
      (answer) => {
        cache.set(key, answer);
        const oldest = cache.keys().next().value;
        if (cache.size > KEPT && oldest !== undefined) cache.delete(oldest);
        setAsked({ answer, error: null });
      },
      (error: unknown) => {
        if (abort.signal.aborted) return;
        setAsked({ answer: null, error: error instanceof ApiError ? error.message : "The server cannot be reached." });
      },
    );
    return () => abort.abort();
  }, [place, id, key, isWanted]);
  return asked;
}
