import { describe, expect, test } from "vitest";
import { csvOf, harmless } from "../../src/model/csv";
import { lookOf } from "../../src/model/looks";
import { keepers, rowsOf, searcher, sortValue } from "../../src/model/table";
import { live, node, ran } from "./made";

const history = {
  runs: ["r1"],
  nodes: { "model.shop.slow": { seconds: [1], median: 1 }, "model.shop.same": { seconds: [2], median: 2 } },
};
const look = lookOf(live({ is_over: true }));
const rows = rowsOf(
  [
    ran("slow", 0, 5),
    ran("same", 0, 2.1),
    ran("new", 0, 1, { meaning: "warning", state: "warn" }),
    node("bad", { meaning: "failure", state: "error", message: "Column is missing", path: "models/bad.sql" }),
    node("left", { meaning: "skipped", state: "skipped" }),
  ],
  look,
  history,
);
const names = (kept: typeof rows) => kept.map((row) => row.node.name);

describe("filters", () => {
  const keeps = keepers(rows);
  test("each keeps what it says", () => {
    expect(names(rows.filter(keeps.failed))).toEqual(["bad"]);
    expect(names(rows.filter(keeps.warned))).toEqual(["new"]);
    expect(names(rows.filter(keeps.unbuilt))).toEqual(["left"]);
    expect(names(rows.filter(keeps.slowest))).toEqual(["slow", "same", "new"]);
  });
  test("a node has changed by a second and a tenth, not by less", () => {
    expect(names(rows.filter(keeps.changed))).toEqual(["slow"]);
  });
});

test("a search needs all of its words, anywhere", () => {
  expect(names(rows.filter(searcher("COLUMN bad.sql")))).toEqual(["bad"]);
  expect(names(rows.filter(searcher("column slow")))).toEqual([]);
  expect(rows.filter(searcher("  "))).toHaveLength(5);
});

test("what says nothing has no value to sort by", () => {
  const [slow, , fresh] = rows;
  expect(slow && sortValue(slow, "change")).toBe(4);
  expect(fresh && sortValue(fresh, "change")).toBeUndefined();
});

describe("CSV", () => {
  test.each(["=1+1", "+1", "-1", "@x", "\tx", "\rx", " =1", "\n=1"])("%j is no formula", (text) => {
    expect(harmless(text)).toBe(`'${text}`);
  });
  test("quotes, commas and lines stay in their cell", () => {
    const text = csvOf([node("a", { message: 'say "x",\nand more' })], null);
    expect(text.split("\r\n")).toHaveLength(3);
    expect(text).toContain('"say ""x"",\nand more"');
  });
  test("the columns are those of the report, with the median as what was before", () => {
    const [heads, first] = csvOf([ran("slow", 0, 5)], history).split("\r\n");
    expect(heads).toBe(
      "unique_id,name,kind,state,seconds,seconds_before,change,rows,failures,attempt,started_at,finished_at,file,message",
    );
    expect(first).toBe(
      "model.shop.slow,slow,model,success,5.000,1.000,4.000,,,1,2026-11-21T12:00:00.000Z,2026-11-21T12:00:05.000Z,,",
    );
  });
});
