import { describe, expect, test } from "vitest";
import { commandsOf, idleSeconds, packed, roomFor, startOf, stepOf, titleOf, triesOf } from "../../src/model/lanes";
import type { Bar, Command } from "../../src/types";
import { at, node, ran, run } from "./made";

const bar = (name: string, begin: number, end: number): Bar => ({
  node: name,
  begin,
  end,
  state: "success",
  meaning: "success",
});

describe("lanes that are worked out from the times", () => {
  test("nodes that follow each other share a lane, nodes at the same time do not", () => {
    const rows = packed([bar("a", 0, 2), bar("b", 1, 3), bar("c", 2, 4), bar("d", 3, 4)]);
    expect(rows.map((row) => row.map(({ node }) => node))).toEqual([
      ["a", "c"],
      ["b", "d"],
    ]);
  });

  test("no two bars of a lane overlap", () => {
    const bars = Array.from({ length: 300 }, (_, index) =>
      bar(`n${index}`, index * 0.37, index * 0.37 + ((index * 7) % 13)),
    );
    for (const row of packed(bars)) {
      row.slice(1).forEach((next, index) => {
        expect(next.begin).toBeGreaterThanOrEqual(row[index]?.end ?? 0);
      });
    }
  });

  test("what a lane did not do is idle", () => {
    expect(idleSeconds([bar("a", 1, 2), bar("b", 4, 5)], 0, 6)).toBe(4);
    expect(idleSeconds([], 0, 6)).toBe(6);
  });
});

describe("a run that goes on", () => {
  test("a running node's bar ends at the server's moment", () => {
    const going = run([ran("a", 1, 3), node("b", { state: "started", meaning: "open", started_at: at(3) })], {
      live: { now: at(10), running: [{ node: "model.shop.b", since: at(3) }] },
    });
    const [command] = commandsOf(going);
    expect(command?.lanes.flatMap((lane) => lane.bars)).toEqual([
      { node: "model.shop.a", begin: 1, end: 3, state: "success", meaning: "success" },
      { node: "model.shop.b", begin: 3, end: 10, state: "running", meaning: "open" },
    ]);
  });

  test("nodes that were skipped, or have not begun, have no bar", () => {
    const going = run([
      node("a"),
      node("b", { meaning: "skipped", state: "skipped", started_at: at(1), finished_at: at(1) }),
    ]);
    expect(commandsOf(going)).toEqual([]);
  });

  test("nodes that know their thread are in its lane", () => {
    const going = run([
      ran("a", 0, 1, { thread: "Thread-10" }),
      ran("b", 0, 2, { thread: "Thread-2" }),
      node("c", { state: "started", meaning: "open", started_at: at(3), thread: "Thread-10" }),
    ]);
    const [command] = commandsOf(going);
    expect(command?.has_threads).toBe(true);
    expect(command?.lanes.map(({ name, bars }) => [name, bars.length])).toEqual([
      ["Thread-2", 1],
      ["Thread-10", 2],
    ]);
  });

  test("where a thread is not known, or would do two things at once, lanes are worked out", () => {
    for (const other of [undefined, "Thread-1"]) {
      const [command] = commandsOf(run([ran("a", 0, 2, { thread: "Thread-1" }), ran("b", 1, 3, { thread: other })]));
      expect(command?.has_threads).toBe(false);
      expect(command?.lanes.map(({ name }) => name)).toEqual(["1", "2"]);
    }
  });

  test("earlier attempts keep their own lanes", () => {
    const earlier: Command = {
      label: "attempt 1",
      attempt: 1,
      dbt_version: "",
      started_at: null,
      finished_at: null,
      begin: 0,
      end: 2,
      threads: 1,
      has_threads: true,
      lanes: [{ name: "Thread-1", bars: [bar("model.shop.a", 0, 2)], idle: 0 }],
    };
    const going = run([ran("a", 0, 2, { attempt: 1 }), ran("b", 5, 6, { attempt: 2 })], {
      record: { commands: [earlier] },
      live: { attempt: 2 },
    });
    const commands = commandsOf(going);
    expect(commands.map(({ label }) => label)).toEqual(["attempt 1", "attempt 2"]);
    expect(commands[1]?.lanes.flatMap((lane) => lane.bars.map(({ node }) => node))).toEqual(["model.shop.b"]);
    expect(triesOf(commands, "model.shop.a")).toHaveLength(1);
  });

  test("without a beginning of the run, times count from the first node", () => {
    expect(startOf(run([ran("a", 7, 8), ran("b", 5, 6)], { record: { started_at: null } }))).toBe(Date.parse(at(5)));
  });
});

test("the marks of an axis are round", () => {
  expect(stepOf(0.65, 8)).toBeCloseTo(0.1);
  expect(stepOf(60, 8)).toBe(10);
  expect(stepOf(4000, 8)).toBe(600);
});

test("the axis of a run that goes on has room", () => {
  for (const seconds of [0, 0.3, 1, 9.9, 61, 3599]) expect(roomFor(seconds)).toBeGreaterThan(seconds);
  expect(roomFor(11)).toBe(roomFor(12));
});

test("a lane is called after its thread, hooks after what they are, and others by their number", () => {
  expect(titleOf({ name: "Thread-1 (worker)", bars: [], idle: 0 })).toBe("Thread-1");
  expect(titleOf({ name: "MainThread", bars: [], idle: 0 })).toBe("hooks");
  expect(titleOf({ name: "3", bars: [], idle: 0 })).toBe("lane 3");
  expect(titleOf({ name: "", bars: [], idle: 0 })).toBe("unused thread");
});
