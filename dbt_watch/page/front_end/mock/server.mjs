/**
 * A stand-in for the back end, to develop the page with and for its tests: `node mock/server.mjs [port]`.
 *
 * The DAG's name chooses what there is to see: see `DAGS`. It serves what was built, with the policy that the back end sends.
 */
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { bursts, failed, hostile, made, overAnswer, Player, retried, succeeded } from "./runs.mjs";

const STATIC = fileURLToPath(new URL("../../static/", import.meta.url));
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};

const POD = [
  [2, "waiting", "The task of the producer is queued."],
  [3, "pod", "pod pending: ContainerCreating, pulling the image"],
  [2, "parsing", "dbt 1.12.0 is parsing the project"],
];

/** What each DAG shows: the run as it was, or one that is played from the moment of the first look. */
const DAGS = {
  failed: () => ({ record: failed() }),
  success: () => ({ record: succeeded() }),
  retry: () => ({ record: retried() }),
  hostile: () => ({ record: hostile() }),
  big: () => ({ record: made(3000) }),
  ten: () => ({ record: made(10, 2, 0) }),
  live: () => ({ player: new Player(failed(), { speed: 0.08, before: POD }) }),
  quick: () => ({ player: new Player(failed(), { speed: 0.2 }) }),
  pod: () => ({
    player: new Player(failed(), {
      before: [[600, "pod", 'pod pending: ImagePullBackOff: Back-off pulling image "shop:latest"']],
    }),
  }),
  liveBig: () => ({ player: new Player(made(3000), { speed: 4 }) }),
  bursts: () => ({ player: new Player(bursts(3000, 500), { speed: 0.5 }) }),
};

const scenes = new Map();

function sceneOf(query) {
  const key = `${query.get("dag_id")} ${query.get("run_id")}`;
  const make = DAGS[query.get("dag_id")];
  if (!make) return null;
  if (!scenes.has(key)) scenes.set(key, make());
  return scenes.get(key);
}

const answerOf = (scene) => (scene.player ? scene.player.answer() : overAnswer(scene.record));

function historyOf(scene) {
  const { nodes } = answerOf(scene).record;
  const seconds = (node, run) => {
    const usual = node.seconds ?? 0.5;
    const one = usual * (0.7 + 0.5 * Math.abs(Math.sin(run * 12.9 + node.unique_id.length)));
    return run === 3 ? null : node.unique_id.length % 11 === 0 ? one * 0.2 : one;
  };
  const runs = Array.from({ length: 20 }, (_, run) => `scheduled__${run}`);
  const median = (values) =>
    values.filter((value) => value !== null).sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? null;
  return {
    runs,
    nodes: Object.fromEntries(
      nodes.map((node) => {
        const values = runs.map((_, run) => seconds(node, run));
        return [node.unique_id, { seconds: values, median: median(values) }];
      }),
    ),
  };
}

function nodeAnswer(scene, id) {
  const node = answerOf(scene).record.nodes.find((other) => other.unique_id === id);
  if (!node) return null;
  const sql = `create or replace view "shop"."main"."${node.name}" as (\n  select\n    order_id,\n    sum(amount) as amount\n  from "shop"."main"."stg_payments"\n  group by order_id\n);`;
  const hasSql = node.meaning !== "skipped" && node.kind !== "seed";
  return {
    unique_id: id,
    log: [
      { at: node.started_at, level: "info", text: `1 of 23 START ${node.kind} ${node.name}` },
      { at: node.started_at, level: "debug", text: `On ${id}: select 1` },
      ...(node.meaning === "failure" ? [{ at: node.finished_at, level: "error", text: node.message ?? "failed" }] : []),
    ],
    sql_sent: hasSql ? (node.sql ?? sql) : null,
    task_url: `../dags/shop/runs/1/tasks/${encodeURIComponent(node.name.slice(0, 50))}`,
    attempts: [],
  };
}

function nodeFiles(scene, id) {
  const node = answerOf(scene).record.nodes.find((other) => other.unique_id === id);
  if (!node) return null;
  const isOver = !scene.player || scene.player.isOver();
  const compiled = `select\n  order_id,\n  sum(amount) as amount\nfrom "shop"."main"."stg_payments"\ngroup by order_id`;
  return {
    unique_id: id,
    ...(node.kind === "seed" ? {} : isOver ? { compiled_sql: compiled, compiled_from: "run_results.json" } : {}),
    ...(isOver || node.kind === "seed" ? {} : { compiled_missing: "The compiled SQL is kept when dbt has ended." }),
    columns: node.columns ?? [
      { name: "order_id", type: "INTEGER", description: "The order." },
      { name: "amount", type: "DOUBLE", description: "What was paid for it, in all currencies together." },
    ],
    columns_from: "manifest.json and catalog.json",
  };
}

function json(response, status, body) {
  response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  response.end(JSON.stringify(body));
}

function stream(request, response, scene, query) {
  response.writeHead(200, {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
  });
  response.write(": hello\n\n");
  let since = Number(query.get("since"));
  const timer = setInterval(() => {
    if (!scene.player || scene.player.isOver()) {
      response.write(`event: over\nid: ${since}\ndata: {}\n\n`);
      response.end();
      clearInterval(timer);
      return;
    }
    const changes = scene.player.changes(since);
    since = changes.version;
    if (changes.nodes.length > 0 || since % 20 === 0)
      response.write(`event: change\nid: ${since}\ndata: ${JSON.stringify(changes)}\n\n`);
    else if (since % 100 === 0) response.write(": still here\n\n");
  }, 250);
  request.on("close", () => clearInterval(timer));
}

/** Things that the tests switch: whether events work, and what was asked. */
export const control = { events: true, asked: [] };

function api(request, response, path, query) {
  control.asked.push(path);
  if (query.get("dag_id") === "forbidden")
    return json(response, 403, { detail: "You may not see the runs of this DAG." });
  if (query.get("dag_id") === "nothing")
    return json(response, 200, { dag_id: "nothing", run_id: "r", run_state: "success", projects: [], selected: null });
  const scene = sceneOf(query);
  if (!scene) return json(response, 404, { detail: "There is no such DAG." });
  const run = query.get("run_id") || "manual__1";
  switch (path) {
    case "runs":
      return json(response, 200, {
        runs: ["manual__1", "scheduled__2026-11-21T00:00:00+00:00", "scheduled__2026-11-20T00:00:00+00:00"].map(
          (id, index) => ({
            run_id: id,
            state: index === 0 ? "failed" : "success",
            started_at: `2026-11-${22 - index}T00:00:00Z`,
            ended_at: null,
          }),
        ),
      });
    case "projects":
      return json(response, 200, {
        dag_id: query.get("dag_id"),
        run_id: run,
        run_state: "running",
        projects: [
          { group_id: "shop", map_index: -1, label: "shop", producers: ["shop.dbt_build"] },
          { group_id: "finance", map_index: 0, label: "finance, 0", producers: ["finance.dbt_build"] },
        ],
        selected: query.get("task_id")
          ? { group_id: "shop", map_index: -1, node: answerOf(scene).record.causes[0]?.node ?? null }
          : null,
      });
    case "record":
      return json(response, 200, answerOf(scene));
    case "history":
      return json(response, 200, historyOf(scene));
    case "changes":
      return json(
        response,
        200,
        scene.player ? scene.player.changes(Number(query.get("since"))) : { version: 1, nodes: [] },
      );
    case "events":
      if (!control.events) return json(response, 502, { detail: "no streams here" });
      return stream(request, response, scene, query);
    case "node": {
      const answer = nodeAnswer(scene, query.get("node"));
      return answer ? json(response, 200, answer) : json(response, 404, { detail: "There is no such node." });
    }
    case "files": {
      const answer = nodeFiles(scene, query.get("node"));
      return answer ? json(response, 200, answer) : json(response, 404, { detail: "There is no such node." });
    }
    default:
      return json(response, 404, { detail: "There is no such page." });
  }
}

/** Return a server; `prefix` is what a proxy puts in front. */
export function mock(prefix = "") {
  return createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://localhost");
    const root = `${prefix}/dbt_watch/`;
    if (url.pathname === "/frame") {
      // Airflow's page around ours, with the same sandbox.
      response.writeHead(200, { "Content-Type": "text/html" });
      const theme = url.searchParams.get("theme") ?? "light";
      const source = `${root}run?${url.searchParams.get("query") ?? ""}`.replaceAll("&", "&amp;");
      response.end(
        `<!doctype html><html lang="en" class="${theme}"><title>Airflow</title><body style="margin:0"><iframe title="dbt" style="border:0;width:100%;height:100vh" sandbox="allow-scripts allow-same-origin allow-forms allow-downloads" src="${source}"></iframe></body></html>`,
      );
      return;
    }
    if (!url.pathname.startsWith(root)) {
      response
        .writeHead(url.pathname.startsWith("/dags/") ? 200 : 404, { "Content-Type": "text/html" })
        .end("<title>Airflow</title>");
      return;
    }
    const path = url.pathname.slice(root.length);
    if (path.startsWith("api/")) {
      api(request, response, path.slice(4), url.searchParams);
      return;
    }
    const file = path === "run" ? "index.html" : normalize(path);
    const full = join(STATIC, file);
    if (file.startsWith("..") || !existsSync(full) || file === ".") {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "Content-Type": TYPES[extname(full)] ?? "text/plain",
      "Content-Security-Policy": POLICY,
      "Cache-Control": "no-cache",
    });
    response.end(readFileSync(full));
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.argv[2] ?? 8123);
  mock().listen(port, "127.0.0.1", () => {
    for (const name of Object.keys(DAGS)) console.log(`http://127.0.0.1:${port}/dbt_watch/run?dag_id=${name}`);
  });
}
