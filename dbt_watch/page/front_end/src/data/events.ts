/** Reads server-sent events from a stream. The browser's EventSource shows neither comments, which are signs of life, nor the status. */

export interface ServerEvent {
  event: string;
  id: string;
  data: string;
}

/** Splits what arrives into events. */
export class EventReader {
  #rest = "";
  #event = "";
  #id = "";
  #data: string[] = [];

  /** Return the events that a piece of the stream completes. */
  push(text: string): ServerEvent[] {
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?=[^\n])/);
    this.#rest = lines.pop() ?? "";
    return lines.flatMap((line) => this.#line(line));
  }

  #line(line: string): ServerEvent[] {
    if (line === "") return this.#end();
    if (line.startsWith(":")) return [];
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id") this.#id = value;
    return [];
  }

  #end(): ServerEvent[] {
    const found =
      this.#data.length > 0 || this.#event
        ? [{ event: this.#event || "message", id: this.#id, data: this.#data.join("\n") }]
        : [];
    this.#event = "";
    this.#data = [];
    return found;
  }
}
