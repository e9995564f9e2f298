import { describe, expect, test } from "vitest";
import { applied, gathered } from "../../src/model/changes";
import { at, live, node, run } from "./made";

describe("changes of nodes", () => {
  test("a node that did not change stays the same object", () => {
    const before = run([node("a"), node("b")]);
    const after = applied(
      before,
      gathered(null, { version: 2, nodes: [node("b", { meaning: "success", state: "success" })] }),
    );
    expect(after.version).toBe(2);
    expect(after.record.nodes[0]).toBe(before.record.nodes[0]);
    expect(after.record.nodes[1]?.meaning).toBe("success");
  });

  test("what a manifest says of a node is kept when a change leaves it out", () => {
    const before = run([node("a", { path: "a.sql", depends_on: ["model.shop.b"], message: "old" })]);
    const after = applied(before, gathered(null, { version: 2, nodes: [node("a")] }));
    expect(after.record.nodes[0]).toMatchObject({ path: "a.sql", depends_on: ["model.shop.b"] });
    expect(after.record.nodes[0]?.message).toBeUndefined();
  });

  test("a node that was not known comes at the end", () => {
    const after = applied(run([node("a")]), gathered(null, { version: 2, nodes: [node("new")] }));
    expect(after.record.nodes.map(({ name }) => name)).toEqual(["a", "new"]);
  });

  test("of several changes of one node the last counts", () => {
    const first = gathered(null, {
      version: 2,
      nodes: [node("a", { state: "started", meaning: "open" })],
      live: live({ attempt: 1 }),
    });
    const both = gathered(first, { version: 3, nodes: [node("a", { state: "error", meaning: "failure" })] });
    const after = applied(run([node("a")]), both);
    expect(after.version).toBe(3);
    expect(after.record.nodes[0]?.state).toBe("error");
  });

  test("a run that had not begun begins with its first node", () => {
    const before = run([node("a"), node("b")], { record: { started_at: null } });
    const nodes = [node("a", { started_at: at(5) }), node("b", { started_at: at(3) })];
    expect(applied(before, gathered(null, { version: 2, nodes })).record.started_at).toBe(at(3));
  });

  test("tasks that a change does not name stay as they were", () => {
    const task = (state: string) => ({ task_id: "t", map_index: -1, state, try_number: 1 });
    const before = run([node("a")], { live: { tasks: { a: task("running"), b: task("deferred") } } });
    const first = gathered(null, { version: 2, live: live({ tasks: { a: task("success") } }) });
    const both = gathered(first, { version: 3, live: live({ tasks: {} }) });
    const { tasks } = applied(before, both).live;
    expect([tasks.a?.state, tasks.b?.state]).toEqual(["success", "deferred"]);
  });

  test("without changed nodes the list of nodes stays the same object", () => {
    const before = run([node("a")]);
    const after = applied(before, gathered(null, { version: 2, live: live({ phase: "parsing" }) }));
    expect(after.record).toBe(before.record);
    expect(after.live.phase).toBe("parsing");
  });

  test("a thousand batches for 3,000 nodes take less than two seconds", () => {
    const nodes = Array.from({ length: 3000 }, (_, index) => node(`n${index}`));
    let state = run(nodes);
    const begun = performance.now();
    for (let version = 2; version < 1002; version++) {
      state = applied(state, gathered(null, { version, nodes: [node(`n${version}`, { meaning: "success" })] }));
    }
    expect(performance.now() - begun).toBeLessThan(2000);
    expect(state.version).toBe(1001);
  });
});
