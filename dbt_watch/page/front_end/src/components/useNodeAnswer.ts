/** Asks the back end for what only a node's own view shows: its log and its SQL, and what dbt's files say of it. */
import { useEffect, useState } from "react";
import { ApiError, api, type Place } from "../data/api";
import { useStore } from "../data/store";
import type { NodeAnswer, NodeFiles, NodeRecord } from "../types";

interface Reply<T> {
  answer: T | null;
  error: string | null;
}

export type Asked = Reply<NodeAnswer>;

const NOTHING = { answer: null, error: null };
const KEPT = 100;
const cache = new Map<string, unknown>();

type Ask<T> = (place: Place, node: string, signal: AbortSignal) => Promise<T>;

/** Return what is known of a node; it is asked anew when the node's state has changed. */
export const useNodeAnswer = (id: string, node: NodeRecord | undefined, isWanted = true): Asked =>
  useReply<NodeAnswer>("node", api.node, id, `${node?.state} ${node?.attempt ?? 1}`, isWanted);

/** Return what dbt's files say of a node; they are kept when dbt has ended. */
export const useNodeFiles = (id: string, isOver: boolean, isWanted = true): Reply<NodeFiles> =>
  useReply<NodeFiles>("files", api.files, id, String(isOver), isWanted);

function useReply<T>(kind: string, ask: Ask<T>, id: string, version: string, isWanted: boolean): Reply<T> {
  const place = useStore((state) => state.place);
  const key = place ? JSON.stringify([kind, place, id, version]) : "";
  const [asked, setAsked] = useState<Reply<T>>(NOTHING);
  useEffect(() => {
    if (!place || !isWanted || !key) return;
    const known = cache.get(key);
    if (known) {
      setAsked({ answer: known as T, error: null });
      return;
    }
    const abort = new AbortController();
    ask(place, id, abort.signal).then(
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
  }, [place, ask, id, key, isWanted]);
  return asked;
}
