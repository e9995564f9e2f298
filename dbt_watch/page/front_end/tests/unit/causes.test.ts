import { expect, test } from "vitest";
import { causesOf, causesSoFar } from "../../src/model/causes";
import { lookOf, wordOf } from "../../src/model/looks";
import { at, live, node, run } from "./made";

const failing = (name: string) => node(name, { state: "error", meaning: "failure" });
const skipped = (name: string, ...because: string[]) =>
  node(name, { state: "skipped", meaning: "skipped", because: because.map((id) => `model.shop.${id}`) });

test("while dbt runs, what kept the most from being built comes first", () => {
  const causes = causesSoFar([failing("a"), failing("b"), skipped("c", "b"), skipped("d", "b", "a")]);
  expect(causes.map(({ node, blocked }) => [node, blocked])).toEqual([
    ["model.shop.b", ["model.shop.c", "model.shop.d"]],
    ["model.shop.a", ["model.shop.d"]],
  ]);
});

test("a skipped node whose reason is not known is put down to the only failure", () => {
  expect(causesSoFar([failing("a"), skipped("b")])[0]?.blocked).toEqual(["model.shop.b"]);
  expect(causesSoFar([failing("a"), failing("x"), skipped("b")])[0]?.blocked).toEqual([]);
});

test("a cancelled node did not fail by itself", () => {
  expect(causesSoFar([node("a", { state: "cancelled", meaning: "failure" })])).toEqual([]);
});

test("once the run is over, its record says why", () => {
  const cause = { node: null, title: "dbt ended before it was through" };
  expect(causesOf(run([failing("a")], { record: { causes: [cause] }, live: { is_over: true } }))).toEqual([cause]);
});

test("a node that dbt has not come to waits, unless the run is over or it is said why", () => {
  const going = lookOf(live({ running: [{ node: "model.shop.r", since: at(1) }] }));
  expect(going(node("a"))).toBe("waiting");
  expect(wordOf(node("a"), going(node("a")))).toBe("waiting");
  expect(going(node("r"))).toBe("running");
  expect(going(node("s", { state: "started", meaning: "open", started_at: at(1) }))).toBe("running");
  expect(going(node("b", { not_run: "fail-fast" }))).toBe("not run");
  expect(lookOf(live({ is_over: true }))(node("a"))).toBe("not run");
});
