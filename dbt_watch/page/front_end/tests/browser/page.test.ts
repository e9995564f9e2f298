/** The page in a real browser, against the stand-in server: keyboard, screen reader, hostile texts, size, live changes. */
import { existsSync, mkdirSync } from "node:fs";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import axe from "axe-core";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
// @ts-expect-error: the stand-in is plain JavaScript
import { control, mock } from "../../mock/server.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
/** Where pictures of the views are put, if anywhere. */
const PICTURES = process.env.PICTURES;
const PREFIX = "/some/prefix";
const VIEWS = ["now", "why", "timeline", "graph", "table"] as const;

let server: Server;
let browser: Browser;
let base: string;
let context: BrowserContext;
let problems: string[];
let foreign: string[];
let runs = 0;

beforeAll(async () => {
  if (!existsSync(CHROMIUM)) throw new Error(`no Chromium at ${CHROMIUM}; CHROMIUM names another`);
  if (PICTURES) mkdirSync(PICTURES, { recursive: true });
  server = mock(PREFIX) as Server;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"], timeout: 120_000 });
}, 180_000);

afterAll(async () => {
  await browser?.close();
  server?.close();
});

interface Look {
  dark?: boolean;
  width?: number;
  height?: number;
}

async function opened(query: string, { dark = false, width = 1280, height = 800 }: Look = {}): Promise<Page> {
  context = await browser.newContext({
    viewport: { width, height },
    colorScheme: dark ? "dark" : "light",
    acceptDownloads: true,
  });
  context.setDefaultTimeout(60_000);
  const page = await context.newPage();
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") problems.push(message.text());
  });
  page.on("pageerror", (error) => problems.push(String(error.stack)));
  page.on("request", (request) => {
    if (!request.url().startsWith(base) && !request.url().startsWith("blob:")) foreign.push(request.url());
  });
  // Each opening is a run of its own, so that what is played begins anew.
  runs += 1;
  await page.goto(`${base}${PREFIX}/dbt_watch/run?${query.includes("run_id") ? query : `${query}&run_id=run_${runs}`}`);
  return page;
}

async function shown(page: Page): Promise<void> {
  await page.waitForSelector(".panel");
  if (await page.locator(".graph").count()) await page.waitForSelector('.graph[aria-busy="false"]');
}

async function complaintsOfAxe(page: Page): Promise<string[]> {
  // The policy of the page lets no script in, but for what the debugger evaluates.
  await page.evaluate(axe.source);
  return page.evaluate(async () => {
    // @ts-expect-error: it has just been put there
    const { violations } = await window.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    });
    return violations.map(
      (found: { id: string; nodes: { html: string; failureSummary: string }[] }) =>
        `${found.id}: ${found.nodes
          .map((node) => `${node.html.slice(0, 160)} ${node.failureSummary}`)
          .slice(0, 3)
          .join(" | ")}`,
    );
  });
}

beforeEach(() => {
  problems = [];
  foreign = [];
  control.events = true;
  control.asked = [];
});

afterEach(async () => {
  await context?.close();
  expect(foreign).toEqual([]);
});

describe.each([false, true])("dark: %s", (dark) => {
  test.each(VIEWS)("axe finds nothing in the view %s", async (view) => {
    const page = await opened(`dag_id=failed&view=${view}`, { dark });
    await shown(page);
    await page.waitForLoadState("networkidle");
    expect(await complaintsOfAxe(page)).toEqual([]);
    if (PICTURES) await page.screenshot({ path: `${PICTURES}/${view}-${dark ? "dark" : "light"}.png` });
    expect(problems).toEqual([]);
  });

  test("axe finds nothing in a node, beside the table and on a narrow screen", async () => {
    for (const width of [1280, 400]) {
      const page = await opened("dag_id=failed&view=table&node=model.jaffle_shop.orders", { dark, width });
      await page.getByText("SQL that was sent").waitFor();
      await page.getByRole("heading", { name: /^Columns/ }).waitFor();
      expect(await complaintsOfAxe(page)).toEqual([]);
      if (PICTURES) await page.screenshot({ path: `${PICTURES}/node-${dark ? "dark" : "light"}-${width}.png` });
      await context.close();
    }
  });

  test("axe finds nothing while a run goes on", async () => {
    const page = await opened("dag_id=liveBig&view=now", { dark });
    await page.getByRole("heading", { name: "Running now" }).waitFor();
    expect(await complaintsOfAxe(page)).toEqual([]);
    if (PICTURES) await page.screenshot({ path: `${PICTURES}/live-${dark ? "dark" : "light"}.png` });
  });
});

test.each(VIEWS)("on a narrow screen the view %s does not stick out, and axe finds nothing", async (view) => {
  const page = await opened(`dag_id=failed&view=${view}`, { width: 400, height: 700 });
  await shown(page);
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(400);
  expect(await complaintsOfAxe(page)).toEqual([]);
  if (PICTURES) await page.screenshot({ path: `${PICTURES}/${view}-400.png` });
});

describe("a failed run", () => {
  test("opens with the culprit's error and SQL, and the nodes that were not built unfold", async () => {
    const page = await opened("dag_id=failed");
    await shown(page);
    expect(await page.getByRole("tab", { name: /Why/ }).getAttribute("aria-selected")).toBe("true");
    const cause = page.getByRole("article").first();
    await cause.getByText("Referenced column").waitFor();
    await cause.getByRole("region", { name: "SQL of orders" }).waitFor();
    await cause.getByRole("button", { name: "8 nodes were not built because of it" }).click();
    expect(await cause.getByRole("listitem").count()).toBe(8);
  });

  test("a node has its columns, its compiled SQL, its tests with their results, and the thread that ran it", async () => {
    const page = await opened("dag_id=failed&view=timeline&node=model.jaffle_shop.stg_orders");
    const panel = page.getByRole("complementary", { name: "Node stg_orders" });
    await panel.getByRole("heading", { name: "Columns, from manifest.json and catalog.json" }).waitFor();
    await panel.getByRole("row", { name: "order_id" }).waitFor();
    await panel.getByRole("button", { name: "Compiled SQL, from run_results.json" }).click();
    await panel.getByRole("region", { name: "Compiled SQL" }).getByText("sum(amount)").waitFor();
    expect(await panel.locator("dl").textContent()).toContain("Thread-1");
    const tests = panel.locator("section", { has: page.getByRole("heading", { name: "Tests" }) });
    expect(await tests.getByRole("listitem").allInnerTexts()).toEqual([
      expect.stringMatching(/pass.*unique_stg_orders|unique_stg_orders.*pass/s),
      expect.stringMatching(/accepted_values/),
    ]);
    if (PICTURES) await page.screenshot({ path: `${PICTURES}/node-whole.png` });
  });

  test("a retried run shows each attempt, and a node which of them built it", async () => {
    const page = await opened("dag_id=retry&view=timeline");
    await page
      .getByRole("heading", { name: /attempt 1/ })
      .first()
      .waitFor();
    await page
      .getByRole("heading", { name: /attempt 2/ })
      .first()
      .waitFor();
    await page.locator(".bar").first().click();
    const panel = page.getByRole("complementary", { name: /Node/ });
    await panel.getByText(/^[12] of 2$/).waitFor();
    if (PICTURES) await page.screenshot({ path: `${PICTURES}/attempts.png` });
  });

  test("with a task in the address opens its node", async () => {
    const page = await opened("dag_id=failed&task_id=shop.orders");
    await page.getByRole("complementary", { name: "Node orders" }).waitFor();
    expect(new URL(page.url()).searchParams.get("node")).toBe("model.jaffle_shop.orders");
    expect(new URL(page.url()).searchParams.get("task_id")).toBeNull();
  });

  test("what is seen is in the address, and the way back leads back", async () => {
    const page = await opened("dag_id=failed");
    await shown(page);
    await page.getByRole("tab", { name: "Table" }).click();
    await page.getByRole("radio", { name: /Not built/ }).click();
    await page.getByRole("button", { name: "customers", exact: true }).click();
    const params = new URL(page.url()).searchParams;
    expect([params.get("view"), params.get("filter"), params.get("node")]).toEqual([
      "table",
      "unbuilt",
      "model.jaffle_shop.customers",
    ]);
    await page.goBack();
    await page.getByRole("complementary", { name: /Node/ }).waitFor({ state: "detached" });
    await page.goBack();
    await page.getByRole("article").first().waitFor();
  });

  test("CSV is what the table shows", async () => {
    const page = await opened("dag_id=failed&view=table&filter=failed");
    const [download] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name: "Download CSV" }).click(),
    ]);
    const chunks: Buffer[] = [];
    for await (const chunk of await download.createReadStream()) chunks.push(chunk as Buffer);
    const lines = Buffer.concat(chunks).toString().trim().split("\r\n");
    expect(lines[1]).toMatch(/^model\.jaffle_shop\.orders,orders,model,error/);
    expect(download.suggestedFilename()).toBe("nodes.csv");
  });
});

describe("with the keyboard alone", () => {
  test("tabs, the table's rows and a node are reached, and the focus comes back", async () => {
    const page = await opened("dag_id=big&view=table");
    await shown(page);
    await page.getByRole("tab", { name: "Table" }).focus();
    await page.keyboard.press("ArrowLeft");
    await page.waitForSelector(".panel-graph");
    await page.keyboard.press("ArrowRight");
    await page.waitForSelector(".panel-table tbody tr");
    await page.locator("tbody tr[data-index] button").first().focus();
    await page.keyboard.press("End");
    await page.waitForFunction(() => document.activeElement?.closest("tr")?.dataset.index === "2999");
    await page.keyboard.press("Home");
    await page.waitForFunction(() => document.activeElement?.closest("tr")?.dataset.index === "0");
    await page.keyboard.press("ArrowDown");
    await page.waitForFunction(() => document.activeElement?.closest("tr")?.dataset.index === "1");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement?.closest(".node-panel") !== null);
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.activeElement?.closest("tr")?.dataset.index === "1");
  });

  test("arrow keys go from bar to bar, Enter opens one", async () => {
    const page = await opened("dag_id=failed&view=timeline");
    await page.locator(".bar[tabindex='0']").focus();
    const first = await page.evaluate(() => document.activeElement?.getAttribute("aria-label"));
    await page.keyboard.press("ArrowRight");
    expect(await page.evaluate(() => document.activeElement?.getAttribute("aria-label"))).not.toBe(first);
    await page.keyboard.press("ArrowDown");
    expect(await page.locator(".bar[tabindex='0']").count()).toBe(1);
    await page.keyboard.press("Enter");
    await page.waitForSelector(".node-panel");
  });

  test("arrow keys go along the lines of the graph", async () => {
    const page = await opened("dag_id=failed&view=graph");
    await shown(page);
    await page.getByRole("searchbox").fill("model.jaffle_shop.orders");
    await page.keyboard.press("Enter");
    const chosen = page.getByRole("complementary", { name: "The chosen node" });
    await chosen.getByRole("heading", { name: "orders" }).waitFor();
    await page.locator(".graph").focus();
    await page.keyboard.press("ArrowLeft");
    await chosen.getByRole("heading", { name: /stg_|partial/ }).waitFor();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".node-panel");
  });
});

describe("the graph and the pointer", () => {
  /** Return a point of the graph at which there is a node, by moving over it. */
  async function nodeIn(page: Page): Promise<{ x: number; y: number }> {
    const box = await page.locator(".graph").boundingBox();
    if (!box) throw new Error("no graph");
    for (let x = box.x + 20; x < box.x + box.width; x += 25)
      for (let y = box.y + 20; y < box.y + box.height; y += 18) {
        await page.mouse.move(x, y);
        if (await page.locator(".graph.over-node").count()) return { x, y };
      }
    throw new Error("no node is in sight");
  }

  test("a click chooses a node, one beside it none, two open it", async () => {
    const page = await opened("dag_id=failed&view=graph");
    await shown(page);
    const { x, y } = await nodeIn(page);
    await page.mouse.click(x, y);
    const chosen = page.getByRole("complementary", { name: "The chosen node" });
    await chosen.waitFor();
    if (PICTURES) await page.screenshot({ path: `${PICTURES}/graph-chosen.png` });
    const box = await page.locator(".graph").boundingBox();
    await page.mouse.click((box?.x ?? 0) + 4, (box?.y ?? 0) + 4);
    await chosen.waitFor({ state: "detached" });
    const again = await nodeIn(page);
    await page.mouse.dblclick(again.x, again.y);
    await page.getByRole("complementary", { name: /^Node / }).waitFor();
  });

  test("the wheel zooms around the pointer, and dragging moves the graph without choosing", async () => {
    const page = await opened("dag_id=failed&view=graph");
    await shown(page);
    const { x, y } = await nodeIn(page);
    for (let turn = 0; turn < 4; turn++) await page.mouse.wheel(0, -200);
    await page.waitForTimeout(300);
    await page.mouse.move(x + 1, y);
    expect(await page.locator(".graph.over-node").count()).toBe(1);
    if (PICTURES) await page.screenshot({ path: `${PICTURES}/graph-zoomed.png` });
    await page.mouse.down();
    await page.mouse.move(x + 300, y + 200, { steps: 5 });
    await page.mouse.up();
    await page.mouse.move(x + 301, y + 200);
    expect(await page.locator(".graph.over-node").count()).toBe(1);
    expect(await page.getByRole("complementary").count()).toBe(0);
    await page.getByRole("button", { name: "Fit the whole graph" }).click();
  });
});

test("hostile texts stay texts: no script runs, in any view", async () => {
  for (const view of VIEWS) {
    const page = await opened(`dag_id=hostile&view=${view}`);
    await shown(page);
    await page.waitForTimeout(300);
    expect(await page.evaluate(() => "hacked" in window)).toBe(false);
    expect(await page.locator("#root img, #root script, #root iframe").count()).toBe(0);
    await context.close();
  }
  const page = await opened("dag_id=hostile&view=table");
  await page.locator("tbody tr[data-index='1'] button").click();
  await page.waitForSelector(".node-panel dl");
  expect(await page.evaluate(() => "hacked" in window)).toBe(false);
  expect(problems).toEqual([]);
});

describe("3,000 nodes", () => {
  test("cost the page little to paint, in any view", async () => {
    const page = await opened("dag_id=ten&view=table");
    await shown(page);
    const busy = await busyTime(page);
    await page.goto(page.url().replace("dag_id=ten", "dag_id=big"));
    await page.waitForSelector("tbody tr[data-index]");
    const costs: Record<string, number> = { load: await busy() };
    console.log(
      `3,000 nodes: the table stood ${Math.round(await page.evaluate(() => performance.now()))} ms after the request`,
    );
    expect(await page.locator("tbody tr").count()).toBeLessThan(80);
    const slowest: Record<string, number> = {};
    for (const view of ["Timeline", "Graph", "Why", "Table"] as const) {
      const frames = slowestFrame(page);
      await page.getByRole("tab", { name: view }).click();
      await shown(page);
      slowest[view] = Math.round(await frames);
      costs[view] = await busy();
    }
    console.log("processor time of the page, ms:", costs, "slowest frame as the clock goes, ms:", slowest);
    for (const cost of Object.values(costs)) expect(cost).toBeLessThan(5000);
  });

  test("500 changes at once do not stop it", async () => {
    const page = await opened("dag_id=bursts&view=table");
    await page.waitForSelector("tbody tr[data-index]");
    const slowest = await slowestFrame(page, 6000);
    console.log(`500 changes at once: slowest frame ${Math.round(slowest)} ms`);
    expect(slowest).toBeLessThan(3000);
  });
});

/**
 * Return a function that returns for how many milliseconds the page's thread had the processor since it was called before.
 *
 * What the clock says depends on what else the machine does.
 */
async function busyTime(page: Page): Promise<() => Promise<number>> {
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const read = async () => {
    const { metrics } = await session.send("Performance.getMetrics");
    return (metrics.find(({ name }) => name === "TaskDuration")?.value ?? 0) * 1000;
  };
  let before = await read();
  return async () => {
    const now = await read();
    const spent = Math.round(now - before);
    before = now;
    return spent;
  };
}

/** Return how long the longest frame took, in milliseconds. */
function slowestFrame(page: Page, during = 2500): Promise<number> {
  return page.evaluate(
    (time) =>
      new Promise<number>((resolve) => {
        const begun = performance.now();
        let [last, most] = [begun, 0];
        const step = () => {
          const now = performance.now();
          most = Math.max(most, now - last);
          last = now;
          if (now - begun > time) resolve(most);
          else requestAnimationFrame(step);
        };
        requestAnimationFrame(step);
      }),
    during,
  );
}

describe("a run that goes on", () => {
  test("is live by events, and ends with why", async () => {
    const page = await opened("dag_id=quick");
    await shown(page);
    await page.getByText("live", { exact: true }).waitFor();
    await page.getByRole("heading", { name: /failing|running/ }).waitFor();
    await page.getByRole("heading", { name: "jaffle_shop failure" }).waitFor();
    await page.getByRole("tab", { name: /Why/ }).click();
    await page.getByRole("article", { name: "orders" }).waitFor();
  });

  test("is asked for at intervals where events do not come through", async () => {
    control.events = false;
    const page = await opened("dag_id=quick");
    await page.getByText("asks every 2 s").waitFor();
    await page.getByRole("heading", { name: "jaffle_shop failure" }).waitFor();
    expect(control.asked.filter((path: string) => path === "changes").length).toBeGreaterThan(0);
  });

  test("says what the pod waits for", async () => {
    const page = await opened("dag_id=pod");
    await page.getByText("ImagePullBackOff").waitFor();
    expect(await page.locator('[aria-current="step"]').textContent()).toBe("pod");
  });
});

describe("inside Airflow's frame", () => {
  test("it is as dark as Airflow, and links lead the whole window to the task", async () => {
    context = await browser.newContext({ colorScheme: "light" });
    const page = await context.newPage();
    const query = encodeURIComponent("dag_id=failed&view=why");
    await page.goto(`${base}/frame?theme=dark&query=${query}`);
    const frame = page.frameLocator("iframe");
    await frame.locator(".cause").waitFor();
    expect(await frame.locator("html").getAttribute("data-theme")).toBe("dark");
    await page.evaluate(() => document.documentElement.setAttribute("class", "light"));
    await frame.locator('html[data-theme="light"]').waitFor({ state: "attached" });
    await frame.getByRole("link", { name: /Task/ }).first().click();
    await page.waitForURL(/\/dags\/shop\/runs\/1\/tasks\/orders$/);
  });
});

describe("where there is nothing to show", () => {
  test.each([
    ["forbidden", "You may not see the runs of this DAG."],
    ["unknown", "There is no such DAG."],
    ["nothing", "has no dbt project"],
  ])("DAG %s: it is said", async (dag, text) => {
    const page = await opened(`dag_id=${dag}`);
    await page.getByText(text).waitFor();
  });
});
