/**
 * Keeps what is known of a run up to date: by events, and where nothing comes through, by asking at intervals.
 *
 * While the page is hidden it asks seldom. `data/store.ts` starts and ends it.
 */
import type { Changes } from "../types";
import { ApiError, addressOf, api, failureOf, type Place } from "./api";
import { EventReader } from "./events";

export type Link = "events" | "polling" | "waiting" | "off";

export interface Listener {
  onChanges(changes: Changes): void;
  /** The run is over, or the server no longer remembers what changed: fetch the record anew. */
  onReset(): void;
  onLink(link: Link): void;
  onFailure(error: ApiError): void;
}

export const TIMES = {
  /** After how long without a sign of life the events count as cut, in milliseconds. */
  silence: 20_000,
  poll: 2_000,
  pollHidden: 30_000,
  /** After a reset, which makes the page fetch the whole record. */
  afterReset: 5_000,
  firstRetry: 1_000,
  lastRetry: 30_000,
  /** After how many failures in turn the page asks at intervals instead. */
  streamTries: 2,
};

/** Return how long to wait before the next try: twice as long each time, and not all viewers at once. */
export function retryAfter(failures: number, chance = Math.random()): number {
  const longest = Math.min(TIMES.firstRetry * 2 ** Math.max(failures - 1, 0), TIMES.lastRetry);
  return longest * (0.5 + chance / 2);
}

export class Connection {
  #abort: AbortController | null = null;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #isCut = false;
  #isClosed = false;
  #wasReset = false;
  readonly #place: Place;
  readonly #listener: Listener;
  readonly #since: () => number;

  constructor(place: Place, since: () => number, listener: Listener) {
    this.#place = place;
    this.#since = since;
    this.#listener = listener;
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.#next(0);
  }

  close(): void {
    this.#isClosed = true;
    document.removeEventListener("visibilitychange", this.#onVisibility);
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#listener.onLink("off");
  }

  #onVisibility = (): void => {
    this.#abort?.abort();
    this.#next(document.hidden ? TIMES.pollHidden : 0);
  };

  #next(delay: number): void {
    clearTimeout(this.#timer);
    if (this.#isClosed) return;
    this.#timer = setTimeout(() => void this.#turn(), delay);
  }

  async #turn(): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    const byEvents = !this.#isCut && !document.hidden;
    this.#wasReset = false;
    try {
      if (byEvents) await this.#stream(abort);
      else await this.#poll(abort.signal);
    } catch (error) {
      if (this.#isClosed || (abort.signal.aborted && abort.signal.reason !== "silence")) return;
      this.#failed(error, byEvents);
      return;
    }
    if (this.#isClosed || abort.signal.aborted) return;
    this.#failures = 0;
    this.#next(this.#pause(byEvents));
  }

  /** Return after how long to go on, when all went well. */
  #pause(byEvents: boolean): number {
    if (document.hidden) return TIMES.pollHidden;
    if (this.#wasReset) return TIMES.afterReset;
    // A stream that the server ended goes on at once.
    return byEvents ? 100 : TIMES.poll;
  }

  #failed(error: unknown, byEvents: boolean): void {
    if (error instanceof ApiError && error.isFinal) {
      this.#listener.onFailure(error);
      this.close();
      return;
    }
    this.#failures += 1;
    if (byEvents && (this.#failures >= TIMES.streamTries || this.#abort?.signal.reason === "silence")) {
      this.#isCut = true;
      this.#failures = 0;
      this.#next(0);
      return;
    }
    this.#listener.onLink("waiting");
    this.#next(retryAfter(this.#failures));
  }

  async #poll(signal: AbortSignal): Promise<void> {
    const changes = await api.changes(this.#place, this.#since(), signal);
    this.#listener.onLink("polling");
    this.#take(changes);
  }

  async #stream(abort: AbortController): Promise<void> {
    let silence = setTimeout(() => abort.abort("silence"), TIMES.silence);
    try {
      const address = addressOf("events", { ...this.#place, since: this.#since() });
      const response = await fetch(address, {
        signal: abort.signal,
        credentials: "same-origin",
        headers: { Accept: "text/event-stream" },
        cache: "no-store",
      });
      if (!response.ok) throw await failureOf(response);
      if (!response.body) throw new Error("no stream");
      const events = new EventReader();
      const decoder = new TextDecoder();
      const reader = response.body.getReader();
      for (let isAlive = false; ; isAlive = true) {
        const { done, value } = await reader.read();
        if (done && !isAlive) throw new Error("the stream ended before it began");
        if (done) return;
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort("silence"), TIMES.silence);
        this.#failures = 0;
        this.#listener.onLink("events");
        for (const { event, data } of events.push(decoder.decode(value, { stream: true }))) {
          if (event === "over") this.#reset();
          else if (event === "change" && data) this.#take(JSON.parse(data) as Changes);
        }
      }
    } finally {
      clearTimeout(silence);
    }
  }

  #take(changes: Changes): void {
    if (changes.reset) this.#reset();
    else this.#listener.onChanges(changes);
  }

  #reset(): void {
    this.#wasReset = true;
    this.#listener.onReset();
  }
}
