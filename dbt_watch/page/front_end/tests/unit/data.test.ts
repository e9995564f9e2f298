import { describe, expect, test } from "vitest";
import { addressOf } from "../../src/data/api";
import { retryAfter, TIMES } from "../../src/data/connection";
import { EventReader } from "../../src/data/events";
import { addressIn, queryOf } from "../../src/model/address";

describe("server-sent events", () => {
  test("an event may come in any pieces", () => {
    const text = 'event: change\nid: 7\ndata: {"version":\ndata: 7}\n\n: still here\n\nevent: over\ndata: {}\n\n';
    for (const size of [1, 2, 3, 7, 1000]) {
      const reader = new EventReader();
      const found = Array.from({ length: Math.ceil(text.length / size) }, (_, at) =>
        reader.push(text.slice(at * size, (at + 1) * size)),
      ).flat();
      expect(found).toEqual([
        { event: "change", id: "7", data: '{"version":\n7}' },
        { event: "over", id: "7", data: "{}" },
      ]);
    }
  });

  test("lines may end as on Windows", () => {
    expect(new EventReader().push("event: change\r\ndata: 1\r\n\r\n")).toEqual([
      { event: "change", id: "", data: "1" },
    ]);
  });

  test("a comment is no event", () => {
    expect(new EventReader().push(": hello\n\n")).toEqual([]);
  });
});

test("tries come at longer and longer intervals, and not all viewers at once", () => {
  expect(retryAfter(1, 1)).toBe(TIMES.firstRetry);
  expect(retryAfter(1, 0)).toBe(TIMES.firstRetry / 2);
  expect(retryAfter(4, 1)).toBe(8 * TIMES.firstRetry);
  expect(retryAfter(40, 1)).toBe(TIMES.lastRetry);
});

describe("the address", () => {
  test("what it says comes back as it was", () => {
    const query =
      "?dag_id=d%26g&run_id=manual__2026-11-21T00%3A00%3A00%2B00%3A00&project=a.b&map_index=3&view=table&node=model.shop.%3Cx%3E&filter=failed&q=a%20b&sort=-seconds";
    expect(queryOf(addressIn(query))).toBe(query);
  });
  test.each(["00:00+00:00", "00%3A00%2B00%3A00"])("the id of a run keeps its time zone, encoded or not: %s", (time) => {
    expect(addressIn(`?run_id=manual__2026-11-21T00:${time}`).runId).toBe("manual__2026-11-21T00:00:00+00:00");
  });
  test("words that mean nothing are as if they were not there", () => {
    expect(addressIn("?view=nonsense&filter=nonsense")).toMatchObject({ view: null, filter: "all" });
  });
  test("what Airflow has no value for counts as not given", () => {
    expect(addressIn("?dag_id=d&run_id={RUN_ID}&map_index=%7BMAP_INDEX%7D")).toMatchObject({ runId: "", mapIndex: "" });
  });
  test("questions leave out what is empty", () => {
    expect(addressOf("record", { dag_id: "d g", run_id: "", since: 0, map_index: -1, x: undefined })).toBe(
      "api/record?dag_id=d+g&since=0&map_index=-1",
    );
  });
});
