import { describe, expect, test } from "vitest";
import { around, lineageOf } from "../../src/model/graph";
import { placesOf, spread } from "../../src/model/layered";
import { lookOf } from "../../src/model/looks";
import { live, node, ran } from "./made";

const look = lookOf(live({ is_over: true }));
const id = (name: string) => `model.shop.${name}`;
const built = (name: string, ...parents: string[]) => ran(name, 0, 1, { depends_on: parents.map(id) });

describe("the lineage", () => {
  const nodes = [
    built("a"),
    built("b", "a"),
    built("c", "b"),
    built("d", "a"),
    built("good", "b"),
    built("bad", "b"),
    node("hook", { kind: "operation" }),
  ].map((one) =>
    one.name === "good"
      ? { ...one, kind: "test" }
      : one.name === "bad"
        ? { ...one, kind: "test", meaning: "failure" as const }
        : one,
  );

  test("tests that went well are left out unless they are wanted, and hooks always", () => {
    expect(lineageOf(nodes, look, false).nodes.map(({ name }) => name)).toEqual(["a", "b", "c", "d", "bad"]);
    expect(lineageOf(nodes, look, true).nodes).toHaveLength(6);
  });

  test("what is around a node is all before it and after it, not its siblings", () => {
    expect(around(lineageOf(nodes, look, true), id("c"))).toEqual(new Set([id("c"), id("b"), id("a")]));
    expect(around(lineageOf(nodes, look, false), id("b"))).toEqual(new Set([id("a"), id("b"), id("c"), id("bad")]));
  });

  test("parents that the run does not know make no line", () => {
    expect(lineageOf([built("x", "elsewhere")], look, true).edges).toEqual([]);
  });
});

describe("places", () => {
  const sized = (names: string[]) => names.map((name) => ({ id: name, width: 100 }));
  const edges = (text: string) => text.split(" ").map((pair) => ({ from: pair[0] ?? "", to: pair[1] ?? "" }));

  test("a node stands right of all that it depends on", () => {
    const lines = edges("ab bc ad dc ae");
    const places = placesOf(sized(["a", "b", "c", "d", "e"]), lines);
    for (const { from, to } of lines) expect(places.get(from)?.x).toBeLessThan(places.get(to)?.x ?? 0);
  });

  test("no two nodes of a column are nearer than a row", () => {
    const nodes = sized(Array.from({ length: 40 }, (_, index) => `n${index}`));
    const lines = Array.from({ length: 39 }, (_, index) => ({
      from: `n${Math.floor(index / 3)}`,
      to: `n${index + 1}`,
    }));
    const columns = new Map<number, number[]>();
    for (const { x, y } of placesOf(nodes, lines).values()) columns.set(x, [...(columns.get(x) ?? []), y]);
    for (const column of columns.values()) {
      column.sort((a, b) => a - b);
      column.slice(1).forEach((y, index) => {
        expect(y - (column[index] ?? 0)).toBeGreaterThanOrEqual(38 - 1e-6);
      });
    }
  });

  test("a circle, which dbt does not allow, does no harm", () => {
    expect(placesOf(sized(["a", "b"]), edges("ab ba")).size).toBe(2);
  });

  test("nodes without lines are placed, too", () => {
    expect(placesOf(sized(["a", "b", "c"]), []).size).toBe(3);
  });

  test("5,000 nodes are placed within two seconds, and not as one tall column", () => {
    const nodes = sized(Array.from({ length: 5000 }, (_, index) => `n${index}`));
    const lines = nodes
      .slice(1000)
      .flatMap((_, index) => [1, 2].map((step) => ({ from: `n${(index * step * 7) % 1000}`, to: `n${index + 1000}` })));
    const begun = performance.now();
    const places = [...placesOf(nodes, lines).values()];
    expect(performance.now() - begun).toBeLessThan(2000);
    const spanOf = (axis: "x" | "y") =>
      places.reduce((most, place) => Math.max(most, place[axis]), 0) -
      places.reduce((least, place) => Math.min(least, place[axis]), 0);
    expect(spanOf("y") / spanOf("x")).toBeLessThan(4);
  });
});

test("values that are too near are spread around where they wanted to be", () => {
  expect(spread([5, 5, 5], 2)).toEqual([3, 5, 7]);
  expect(spread([0, 10, 20], 2)).toEqual([0, 10, 20]);
});
