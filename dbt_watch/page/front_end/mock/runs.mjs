/** Runs for the stand-in server: recorded ones, one of any size, one with hostile names, and one that is played. */
import { readFileSync } from "node:fs";

/** Return a recorded run, whose nodes know their threads as those of a journal do. */
function recorded(name) {
  const record = JSON.parse(readFileSync(new URL(`records/${name}.json`, import.meta.url), "utf8"));
  const lanes = record.commands.flatMap((command) => command.lanes);
  const threads = new Map(lanes.flatMap((lane) => lane.bars.map((bar) => [bar.node, lane.name.split(" ")[0]])));
  for (const node of record.nodes) node.thread = threads.get(node.unique_id);
  return record;
}

/** Return numbers between 0 and 1 that are the same each time. */
function numbersFrom(seed) {
  let state = seed;
  return () => {
    state = (state * 1664525 + 1013904223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

const START = Date.parse("2026-11-21T12:00:00Z");
const isoAt = (seconds) => new Date(START + seconds * 1000).toISOString();

/** Return a made project of about `count` nodes, half of them tests, run by `threads` threads, of which some nodes fail. */
export function made(count, threads = 16, failing = 3) {
  const chance = numbersFrom(count);
  const pick = (list) => list[Math.floor(chance() * list.length)];
  const sizes = [0.06, 0.16, 0.14, 0.09, 0.05].map((share) => Math.max(Math.round(count * share), 1));
  const prefixes = ["raw", "stg", "int", "fct", "rpt"];
  const layers = sizes.map((size, layer) =>
    Array.from({ length: size }, (_, index) => ({
      layer,
      name: `${prefixes[layer]}_${pick(["orders", "payments", "customers", "items", "sessions"])}_${index}`,
    })),
  );
  const nodes = [];
  const add = (kind, name, parents, layer) => {
    const node = {
      unique_id: `${kind}.shop.${name}`,
      name,
      kind,
      materialized: kind === "model" ? (layer > 2 ? "table" : "view") : kind,
      path: `models/${prefixes[layer]}/${name}.sql`,
      depends_on: parents.map((parent) => parent.unique_id),
      tests: [],
    };
    nodes.push(node);
    return node;
  };
  const done = [];
  layers.forEach((layer, depth) => {
    const before = done.flat();
    done.push(
      layer.map(({ name }) => {
        const wanted = depth === 0 ? 0 : 1 + Math.floor(chance() * 3);
        const parents = new Set(
          Array.from({ length: wanted }, () => (chance() < 0.8 ? pick(done[depth - 1]) : pick(before))),
        );
        const node = add(depth === 0 ? "seed" : "model", name, [...parents], depth);
        node.description = depth > 2 ? `What became of ${name.replaceAll("_", " ")}.` : "";
        return node;
      }),
    );
  });
  const models = [...nodes];
  for (let index = 0; nodes.length < count; index++) {
    const tested = pick(models);
    const test = add("test", `${pick(["unique", "not_null"])}_${tested.name}_${index}`, [tested], 1);
    tested.tests.push(test.unique_id);
  }
  return ran(nodes, threads, failing, chance);
}

/** Run nodes as dbt would, with the first thread that is free. */
function ran(nodes, threads, failing, chance) {
  const free = Array.from({ length: threads }, () => 0);
  const lanes = free.map(() => []);
  const ends = new Map();
  const broken = new Map();
  const staging = nodes.filter((node) => node.name.startsWith("stg_"));
  const failed = new Set(
    Array.from({ length: failing }, () => staging[Math.floor(chance() * staging.length)]?.unique_id),
  );
  const causes = new Map([...failed].filter(Boolean).map((id) => [id, []]));
  const records = nodes.map((node) => {
    const because = node.depends_on.flatMap((id) => [...(broken.get(id) ?? [])]);
    const base = { ...node, attempt: 1 };
    if (because.length > 0) {
      const all = [...new Set(because)];
      broken.set(node.unique_id, all);
      for (const cause of all) causes.get(cause)?.push(node.unique_id);
      return { ...base, state: "skipped", meaning: "skipped", because: all };
    }
    const ready = Math.max(0, ...node.depends_on.map((id) => ends.get(id) ?? 0));
    const thread = free.indexOf(Math.min(...free));
    const begin = Math.max(ready, free[thread]) + 0.01;
    const seconds = 0.05 + chance() ** 4 * 6;
    free[thread] = begin + seconds;
    ends.set(node.unique_id, begin + seconds);
    const isFailed = failed.has(node.unique_id);
    if (isFailed) broken.set(node.unique_id, [node.unique_id]);
    const isTest = node.kind === "test";
    const warns = isTest && chance() < 0.005;
    const state = isFailed ? "error" : warns ? "warn" : isTest ? "pass" : "success";
    const meaning = isFailed ? "failure" : warns ? "warning" : "success";
    lanes[thread].push({ node: node.unique_id, begin, end: begin + seconds, state, meaning });
    const failure = 'Database Error in model\n  column "amount" does not exist\n  LINE 4: sum(amount)\n              ^';
    return {
      ...base,
      state,
      meaning,
      started_at: isoAt(begin),
      finished_at: isoAt(begin + seconds),
      seconds,
      rows: isTest ? undefined : Math.round(chance() ** 3 * 1e6),
      failures: isTest ? (warns ? 3 : 0) : undefined,
      message: isFailed ? failure : warns ? "Got 3 results, configured to warn if != 0" : undefined,
    };
  });
  const end = Math.max(...free);
  const path = lanes.flat().sort((a, b) => b.end - a.end)[0];
  return {
    source: "a made run",
    project: "shop",
    outcome: failing > 0 ? "failure" : "success",
    dbt_version: "1.12.0",
    started_at: isoAt(0),
    finished_at: isoAt(end),
    nodes: records,
    causes: [...causes]
      .map(([node, blocked]) => ({ node, title: `${node}: error`, blocked }))
      .sort((a, b) => b.blocked.length - a.blocked.length),
    commands: [
      {
        label: "dbt",
        attempt: 1,
        dbt_version: "1.12.0",
        started_at: isoAt(0),
        finished_at: isoAt(end),
        begin: 0,
        end,
        threads,
        has_threads: true,
        lanes: lanes.map((bars, index) => ({
          name: `Thread-${index + 1}`,
          bars,
          idle: end - bars.reduce((sum, bar) => sum + bar.end - bar.begin, 0),
        })),
      },
    ],
    critical_path: path ? { nodes: chainTo(path.node, records), seconds: end } : null,
    notes: [],
  };
}

function chainTo(last, records) {
  const byId = new Map(records.map((node) => [node.unique_id, node]));
  const chain = [last];
  for (let node = byId.get(last); node?.depends_on.length; node = byId.get(chain[0])) chain.unshift(node.depends_on[0]);
  return chain;
}

const HOSTILE = [
  "<script>window.hacked = 1</script>",
  '"><img src=x onerror="window.hacked = 1">',
  "javascript:window.hacked=1",
  '=HYPERLINK("http://evil.example","x")',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is to stay one
  "${window.hacked = 1}{{constructor.constructor('window.hacked = 1')()}}",
  "\u202Egnp.elif\u202C",
  "very_long_name_".repeat(30),
  "__proto__",
  "a\u0000b\u2028c",
  "' onmouseover='window.hacked=1",
];

/** Return a run in which every text tries to be something else. */
export function hostile() {
  const record = made(40, 3, 2);
  record.project = HOSTILE[0];
  record.dbt_version = HOSTILE[1];
  record.notes = [HOSTILE[1]];
  const renamed = new Map(
    record.nodes.map((node, index) => [node.unique_id, `model.shop.${index}.${HOSTILE[index % HOSTILE.length]}`]),
  );
  const id = (old) => renamed.get(old) ?? old;
  record.nodes.forEach((node, index) => {
    const text = HOSTILE[index % HOSTILE.length];
    Object.assign(node, {
      unique_id: id(node.unique_id),
      name: text,
      kind: index % 7 === 0 ? text : node.kind,
      state: index % 5 === 0 ? text : node.state,
      message: `${text}\n${node.message ?? ""}`,
      description: text,
      path: text,
      relation: text,
      columns: [{ name: text, type: text, description: text }],
      depends_on: node.depends_on.map(id),
      tests: node.tests.map(id),
      because: node.because?.map(id),
    });
  });
  for (const cause of record.causes)
    Object.assign(cause, { node: id(cause.node), title: HOSTILE[1], blocked: cause.blocked.map(id) });
  for (const lane of record.commands[0].lanes) {
    lane.name = HOSTILE[1];
    for (const bar of lane.bars) bar.node = id(bar.node);
  }
  record.critical_path.nodes = record.critical_path.nodes.map(id);
  return record;
}

export const failed = () => recorded("failed");
export const succeeded = () => recorded("success");
export const retried = () => recorded("retry");

function countsOf(nodes, running, total) {
  const count = (test) => nodes.filter(test).length;
  const failedCount = count((node) => node.meaning === "failure");
  const warned = count((node) => node.meaning === "warning");
  const skipped = count((node) => node.meaning === "skipped" || (node.meaning === "not run" && node.not_run));
  const done = count((node) => node.meaning === "success") + failedCount + warned;
  return {
    done,
    running,
    waiting: Math.max(total - done - running - skipped, 0),
    failed: failedCount,
    warned,
    skipped,
    total,
  };
}

function tasksOf(record) {
  return Object.fromEntries(
    record.nodes.map((node) => [
      node.unique_id,
      { task_id: `shop.${node.name}`, map_index: -1, state: "success", try_number: 1 },
    ]),
  );
}

/** Return what the server says of a run that is over. */
export function overAnswer(record) {
  const attempt = Math.max(1, ...record.commands.map((command) => command.attempt));
  return {
    version: 1,
    record,
    live: {
      is_over: true,
      phase: "over",
      phase_text: "",
      now: new Date().toISOString(),
      running: [],
      counts: countsOf(record.nodes, 0, record.nodes.length),
      estimated_end: null,
      attempt,
      tasks: tasksOf(record),
      sources: ["record"],
      notes: [],
    },
  };
}

/** Plays a run: what it looked like at each moment since somebody first looked at it. */
export class Player {
  #record;
  #speed;
  #begun = Date.now();
  #before;

  /**
   * @param record the run as it will have been
   * @param speed how many of its seconds pass in one
   * @param before phases before the first node, as [seconds, phase, text]
   */
  constructor(record, { speed = 1, before = [] } = {}) {
    this.#record = record;
    this.#speed = speed;
    this.#before = before;
    const first = record.nodes.reduce(
      (least, node) => (node.started_at ? Math.min(least, Date.parse(node.started_at)) : least),
      Number.POSITIVE_INFINITY,
    );
    const last = record.nodes.reduce(
      (most, node) => (node.finished_at ? Math.max(most, Date.parse(node.finished_at)) : most),
      0,
    );
    this.first = first;
    this.last = last;
  }

  get #lead() {
    return this.#before.reduce((sum, [seconds]) => sum + seconds, 0);
  }

  /** The version counts tenths of a second. */
  get version() {
    return Math.max(Math.floor((Date.now() - this.#begun) / 100), 0) + 1;
  }

  #moment(version) {
    return this.first + (version / 10 - this.#lead) * this.#speed * 1000;
  }

  isOver(version = this.version) {
    return this.#moment(version) > this.last + 1000;
  }

  /** Return a moment of the record as a time of now. */
  #shifted(time) {
    if (!time) return time;
    return new Date(this.#begun + this.#lead * 1000 + (Date.parse(time) - this.first) / this.#speed).toISOString();
  }

  #look(node, moment) {
    if (node.started_at && Date.parse(node.started_at) <= moment) {
      return !node.finished_at || Date.parse(node.finished_at) <= moment ? "over" : "running";
    }
    const cause = node.because?.map((id) => this.#record.nodes.find((other) => other.unique_id === id)).find(Boolean);
    if (!node.started_at)
      return cause && Date.parse(cause.finished_at) <= moment ? "over" : this.isOver() ? "over" : "waiting";
    return "waiting";
  }

  #node(node, moment) {
    const look = this.#look(node, moment);
    const times = { started_at: this.#shifted(node.started_at), finished_at: this.#shifted(node.finished_at) };
    if (look === "over") return { ...node, ...times };
    const { message, rows, failures, seconds, because, ...rest } = node;
    if (look === "running") return { ...rest, ...times, finished_at: undefined, state: "started", meaning: "open" };
    return { ...rest, started_at: undefined, finished_at: undefined, state: "not run", meaning: "not run" };
  }

  live(version = this.version) {
    const moment = this.#moment(version);
    const nodes = this.#record.nodes.map((node) => this.#node(node, moment));
    const running = nodes
      .filter((node) => node.meaning === "open")
      .map((node) => ({ node: node.unique_id, since: node.started_at }));
    let [phase, text, left] = ["running", "", version / 10];
    for (const [seconds, name, words] of this.#before) {
      if (left < seconds) {
        [phase, text] = [name, words];
        break;
      }
      left -= seconds;
    }
    return {
      is_over: false,
      phase,
      phase_text: text,
      now: new Date().toISOString(),
      running,
      counts: countsOf(nodes, running.length, nodes.length),
      estimated_end: this.#shifted(new Date(this.last).toISOString()),
      attempt: 1,
      tasks: tasksOf(this.#record),
      sources: ["journal"],
      notes: [],
    };
  }

  answer() {
    const version = this.version;
    const over = overAnswer({ ...this.#record });
    if (this.isOver(version)) return { ...over, version };
    const moment = this.#moment(version);
    const begun = moment >= this.first;
    const record = {
      ...this.#record,
      outcome: "unfinished",
      started_at: begun ? this.#shifted(new Date(this.first).toISOString()) : null,
      finished_at: null,
      nodes: this.#record.nodes.map((node) => this.#node(node, moment)),
      causes: [],
      commands: [],
      critical_path: null,
    };
    return { version, record, live: this.live(version) };
  }

  /** Return what changed since a version. */
  changes(since) {
    const version = this.version;
    if (this.isOver(version)) return { version, reset: true };
    const [before, now] = [this.#moment(since), this.#moment(version)];
    const changed = this.#record.nodes.filter((node) => this.#look(node, before) !== this.#look(node, now));
    return { version, nodes: changed.map((node) => this.#node(node, now)), live: this.live(version) };
  }
}

/** Return a large run in which hundreds of nodes end at the same moment, each second. */
export function bursts(count, atOnce) {
  const record = made(count, 16, 0);
  record.nodes.forEach((node, index) => {
    const second = Math.floor(index / atOnce) + 1;
    Object.assign(node, {
      started_at: isoAt(second - 0.5),
      finished_at: isoAt(second),
      state: "success",
      meaning: "success",
      because: undefined,
    });
  });
  return record;
}
