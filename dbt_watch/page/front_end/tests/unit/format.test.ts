import { describe, expect, test } from "vitest";
import { change, clock, counted, duration, oneLine, running, timeOfDay } from "../../src/model/format";

describe("durations", () => {
  test.each([
    [0.054, "0.05 s"],
    [9.994, "9.99 s"],
    [12.34, "12.3 s"],
    [59.96, "1 min 0 s"],
    [250, "4 min 10 s"],
    [7500, "2 h 5 min"],
  ])("%f seconds are written in at most two units", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });

  test("one that goes on has no fractions", () => {
    expect(running(12.9)).toBe("12 s");
    expect(running(-3)).toBe("0 s");
    expect(running(61)).toBe("1 min 1 s");
  });

  test("a change has a sign, and a share where that says something", () => {
    expect(change(2, 3)).toBe("+1.00 s (+50 %)");
    expect(change(2, 1)).toBe("−1.00 s (−50 %)");
    expect(change(0, 1)).toBe("+1.00 s");
  });
});

test("times are in UTC, whatever their offset", () => {
  expect(clock("2026-11-21T12:00:05.5+02:00")).toBe("2026-11-21 10:00:05 UTC");
  expect(timeOfDay("2026-11-21T12:00:05Z")).toBe("12:00:05");
  expect(clock("yesterday")).toBe("");
  expect(clock(null)).toBe("");
});

test("counts agree with their word", () => {
  expect(counted(1, "node")).toBe("1 node");
  expect(counted(3000, "node")).toBe("3,000 nodes");
});

test("a text of many lines becomes one", () => {
  expect(oneLine("a\n  b\t c ", 4)).toBe("a b ");
});
