// @ts-check
// Shows the record of a run, which stands in the page as JSON. All of its texts become text nodes, never markup.
"use strict";

/**
 * What `reporting/run_record.py` describes; fields that say nothing are left out.
 * @typedef {{unique_id: string, name: string, kind: string, state: string, meaning: string, started_at?: string,
 *   finished_at?: string, seconds?: number, rows?: number, failures?: number, message?: string, sql?: string, relation?: string,
 *   not_run?: string, because?: string[], batches?: {index: number, status: string, execution_time?: number}[],
 *   batch_count?: number, age?: number, attempt?: number, materialized?: string, path?: string, description?: string,
 *   columns?: {name: string, type?: string, description?: string}[], tests?: string[], depends_on?: string[]}} Node_
 * @typedef {{node: string, begin: number, end: number, state: string, meaning: string}} Bar
 * @typedef {{name: string, bars: Bar[], idle: number}} Lane
 * @typedef {{label: string, attempt: number, begin: number, end: number, threads: number | null, has_threads: boolean,
 *   dbt_version: string, lanes: Lane[]}} Command
 * @typedef {{node: string | null, title: string, message: string | null, blocked: string[]}} Cause
 * @typedef {{other: string, seconds: number | null, seconds_before: number | null, slower: string[], faster: string[],
 *   broken: string[], repaired: string[], added: string[], removed: string[],
 *   before: Record<string, {state: string, meaning: string, seconds: number | null}>}} Comparison
 * @typedef {{source: string, project: string, outcome: string, dbt_version: string, started_at: string | null,
 *   finished_at: string | null, nodes: Node_[], causes: Cause[], commands: Command[],
 *   critical_path: {nodes: string[], seconds: number} | null, comparison: Comparison | null, notes: string[]}} Run
 */

/** @type {Run} */
const run = JSON.parse(byId("record").textContent || "");
/** @type {Map<string, Node_>} */
const nodes = new Map(run.nodes.map((node) => [node.unique_id, node]));
const before = new Map(Object.entries(run.comparison ? run.comparison.before : {}));
const critical = new Set(run.critical_path ? run.critical_path.nodes : []);
/** @type {Map<string, string[]>} */
const blockedBy = new Map(run.causes.flatMap((cause) => (cause.node === null ? [] : [[cause.node, cause.blocked]])));

const MEANINGS = ["failure", "warning", "success", "skipped", "not run", "open"];
const WORDS = { failure: "failed", warning: "warned", success: "succeeded", skipped: "skipped", "not run": "not run", open: "not finished" };
const PAGE = 100;
const PRINTED = 1000;
const SLOWEST = 50;
const SHOWN_CAUSES = 5;
const SHOWN_CHANGES = 15;

// Small helpers.

/** @param {string} id @returns {HTMLElement} */
function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`no element ${id}`);
  return found;
}

/**
 * Return an element with attributes and content; strings become text.
 * @param {string} name
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} content
 * @returns {HTMLElement}
 */
function make(name, attributes, ...content) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
}

/**
 * @param {string | Node} content
 * @param {(event: Event) => void} act
 * @param {Record<string, string>} attributes
 */
function button(content, act, attributes = {}) {
  const element = make("button", { type: "button", ...attributes }, content);
  element.addEventListener("click", act);
  return element;
}

/** @param {number} seconds */
function duration(seconds) {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {number} from @param {number} to */
function change(from, to) {
  const sign = to < from ? "−" : "+";
  const share = from > 0 ? ` (${sign}${Math.round((Math.abs(to - from) / from) * 100)} %)` : "";
  return `${sign}${duration(Math.abs(to - from))}${share}`;
}

/** @param {string} time */
const clock = (time) => `${time.slice(0, 19).replace("T", " ")} UTC`;
/** @param {number} count @param {string} what */
const counted = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
/** @param {string} meaning */
const style = (meaning) => meaning.replace(" ", "-");
/** @param {string} id */
const nameOf = (id) => nodes.get(id)?.name ?? id;

/** @param {string} state @param {string} meaning */
function stateMark(state, meaning) {
  return make("span", { class: `state ${style(meaning)}` }, state);
}

/** Return a node's name; a button that opens it, where the run knows it. @param {string} id */
function nodeLink(id) {
  return nodes.has(id) ? button(nameOf(id), () => openNode(id), { class: "link" }) : make("span", {}, id);
}

/** @param {string[]} ids @returns {HTMLElement} */
function nodeList(ids) {
  return make("ul", { class: "columns" }, ...ids.map((id) => make("li", {}, nodeLink(id))));
}

/** Return a list that unfolds; what is in it is made only then. @param {string} title @param {() => Node} content @param {boolean} open */
function unfolding(title, content, open = false) {
  const element = /** @type {HTMLDetailsElement} */ (make("details", {}, make("summary", {}, title)));
  const fill = () => element.childElementCount === 1 && element.append(content());
  element.addEventListener("toggle", fill);
  if (open) {
    fill();
    element.open = true;
  }
  return element;
}

// The head of the page.

function showHead() {
  const title = run.project || "dbt";
  document.title = `${title}: ${run.outcome}`;
  const good = run.outcome === "success" ? "success" : run.outcome === "unfinished" ? "open" : "failure";
  byId("title").replaceChildren(`${title} `, make("span", { class: `chip ${good}` }, run.outcome));
  const facts = [];
  if (run.dbt_version) facts.push(`dbt ${run.dbt_version}`);
  if (run.started_at) facts.push(`began ${clock(run.started_at)}`);
  if (run.started_at && run.finished_at) facts.push(`took ${duration(secondsBetween(run.started_at, run.finished_at))}`);
  const attempts = new Set(run.commands.map((command) => command.attempt)).size;
  if (attempts > 1) facts.push(counted(attempts, "attempt"));
  facts.push(`from ${run.source}`);
  byId("facts").textContent = facts.join(" · ");
  const counts = MEANINGS.map((meaning) => /** @type {[string, number]} */ ([meaning, run.nodes.filter((node) => node.meaning === meaning).length]));
  const shown = counts.filter(([, count]) => count > 0);
  const bar = make("div", { class: "totals", "aria-hidden": "true" });
  for (const [meaning, count] of shown) {
    const part = make("span", { class: style(meaning) });
    part.style.flexGrow = String(count);
    bar.append(part);
  }
  const legend = shown.map(([meaning, count]) => stateMark(`${count.toLocaleString("en")} ${WORDS[/** @type {keyof typeof WORDS} */ (meaning)]}`, meaning));
  byId("totals").replaceChildren(bar, make("div", { class: "legend" }, ...legend));
}

/** @param {string} from @param {string} to */
const secondsBetween = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

function showContents() {
  const links = [...document.querySelectorAll("main > section:not([hidden])")].map((section) => {
    const heading = section.querySelector("h2")?.textContent ?? "";
    return make("li", {}, make("a", { href: `#${section.id}` }, heading));
  });
  byId("contents").replaceChildren(make("ul", {}, ...links));
}

// Why.

function showCauses() {
  if (run.causes.length === 0) return;
  byId("why").hidden = false;
  const rest = run.causes.slice(SHOWN_CAUSES);
  byId("causes").replaceChildren(...run.causes.slice(0, SHOWN_CAUSES).map(causeBox));
  if (rest.length > 0) byId("causes").append(unfolding(`and ${rest.length} more`, () => make("div", {}, ...rest.map(causeBox))));
}

/** @param {Cause} cause */
function causeBox(cause) {
  const node = cause.node === null ? undefined : nodes.get(cause.node);
  const box = make("article", { class: "cause" });
  const heading = make("h3", {});
  if (node) heading.append(nodeLink(node.unique_id), " ", make("span", { class: "quiet" }, node.kind), " ", stateMark(node.state, node.meaning));
  else heading.append(cause.title);
  box.append(heading);
  if (node?.path) box.append(make("p", {}, make("code", {}, node.path)));
  const message = cause.message ?? node?.message;
  if (message) box.append(make("pre", {}, message));
  if (node?.sql) box.append(unfolding("SQL that was sent", () => make("pre", {}, node.sql ?? ""), run.causes.length <= 3));
  if (cause.blocked.length > 0) {
    const verb = cause.blocked.length === 1 ? "was" : "were";
    const reason = node ? " because of it" : "";
    box.append(unfolding(`${counted(cause.blocked.length, "node")} ${verb} not built${reason}`, () => nodeList(cause.blocked)));
  }
  return box;
}

// Compared with another run.

function showChanges() {
  const found = run.comparison;
  if (found === null) return;
  byId("compared").hidden = false;
  const parts = [];
  const total = found.seconds !== null && found.seconds_before !== null ? `: ${duration(found.seconds)}, before ${duration(found.seconds_before)}, ${change(found.seconds_before, found.seconds)}` : "";
  parts.push(make("p", {}, `With ${found.other}${total}.`));
  /** @type {[string, string[]][]} */
  const lists = [["failed or skipped, and had not before", found.broken], ["well again", found.repaired], ["new", found.added]];
  for (const [what, ids] of lists) {
    if (ids.length > 0) parts.push(unfolding(`${counted(ids.length, "node")} ${what}`, () => nodeList(ids), what.startsWith("failed")));
  }
  if (found.removed.length > 0) parts.push(unfolding(`${counted(found.removed.length, "node")} gone`, () => nodeList(found.removed)));
  /** @type {[string, string[]][]} */
  const changed = [["slower", found.slower], ["faster", found.faster]];
  for (const [what, ids] of changed) {
    if (ids.length > 0) parts.push(unfolding(`${counted(ids.length, "node")} ${what}`, () => changeTable(ids), what === "slower"));
  }
  if (found.slower.length === 0) parts.push(make("p", {}, "No node became clearly slower."));
  byId("changes").replaceChildren(...parts);
}

/** @param {string[]} ids */
function changeTable(ids) {
  const rowsOf = (/** @type {string[]} */ shown) => shown.map((id) => {
    const from = before.get(id)?.seconds ?? 0;
    const to = nodes.get(id)?.seconds ?? 0;
    return make("tr", {}, make("th", { scope: "row" }, nodeLink(id)), numberCell(duration(from)), numberCell(duration(to)), numberCell(change(from, to), to > from ? "worse" : "better"));
  });
  const heads = ["Before", "Now", "Change"].map((name) => make("th", { scope: "col", class: "number" }, name));
  const body = make("tbody", {}, ...rowsOf(ids.slice(0, SHOWN_CHANGES)));
  const table = make("table", {}, make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Node"), ...heads)), body);
  const rest = ids.slice(SHOWN_CHANGES);
  if (rest.length === 0) return table;
  const more = button(`Show ${rest.length} more`, () => {
    body.append(...rowsOf(rest));
    more.remove();
  });
  return make("div", {}, table, make("p", {}, more));
}

/** @param {string} text @param {string} more */
function numberCell(text, more = "") {
  return make("td", { class: `number ${more}`.trim() }, text);
}

// The timeline.

const timeline = {
  begin: Math.min(...run.commands.filter((command) => command.lanes.length > 0).map((command) => command.begin)),
  end: Math.max(...run.commands.map((command) => command.end)),
  zoom: 1,
  /** @type {HTMLElement[][]} */
  rows: [],
  /** @type {WeakMap<HTMLElement, Bar>} */
  bars: new WeakMap(),
};

function showTimeline() {
  const commands = run.commands.filter((command) => command.lanes.length > 0);
  if (commands.length === 0) return;
  byId("timeline").hidden = false;
  const lanes = byId("lanes");
  lanes.append(axis());
  for (const command of commands) lanes.append(commandBlock(command, commands.length > 1));
  lanes.addEventListener("keydown", moveAmongBars);
  lanes.addEventListener("click", (event) => {
    const bar = timeline.bars.get(/** @type {HTMLElement} */ (event.target));
    if (bar) openNode(bar.node);
  });
  timeline.rows[0]?.[0]?.setAttribute("tabindex", "0");
  const tools = byId("timeline-tools");
  const group = make("div", { class: "group" });
  group.append(button("−", () => zoomBy(1 / 2), { "aria-label": "Zoom out" }), button("+", () => zoomBy(2), { "aria-label": "Zoom in" }), button("Fit", () => zoomBy(0), { "aria-label": "Fit the whole run" }));
  tools.append(group);
  if (run.critical_path && run.critical_path.nodes.length > 1) {
    const path = run.critical_path;
    const list = () => make("ol", {}, ...path.nodes.map((id) => make("li", {}, nodeLink(id), ` ${duration(nodes.get(id)?.seconds ?? 0)}`)));
    tools.append(unfolding(`Critical path: ${duration(path.seconds)}, ${counted(path.nodes.length, "node")}`, list));
  }
  const idle = commands.flatMap((command) => command.lanes).reduce((sum, lane) => sum + lane.idle, 0);
  byId("timeline-hint").textContent = [
    `Together, the ${commands.some((command) => command.has_threads) ? "threads" : "lanes"} were idle for ${duration(idle)}.`,
    commands.some((command) => !command.has_threads) ? "Which thread of dbt ran a node is not known everywhere; lanes with numbers are worked out from the times." : "",
    critical.size > 1 ? "Framed bars are the critical path: the chain of nodes that waited for each other and took the longest." : "",
    "Arrow keys move from bar to bar; Enter opens a node.",
  ].filter(Boolean).join(" ");
  labelBars();
  window.addEventListener("resize", labelBars);
}

/** @param {number} seconds @returns {number} in percent */
const place = (seconds) => ((seconds - timeline.begin) / (timeline.end - timeline.begin || 1)) * 100;

function axis() {
  const span = timeline.end - timeline.begin;
  const raw = Math.max(span, 1e-6) / 8;
  const power = 10 ** Math.floor(Math.log10(raw));
  const steps = raw >= 1 ? [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400] : [power, 2 * power, 5 * power, 10 * power];
  const step = steps.find((candidate) => candidate >= raw) ?? raw;
  const bars = make("div", { class: "bars" });
  for (let at = 0; at <= span * 0.96; at += step) {
    const tick = make("span", { class: "tick" }, duration(at).replace(/ 0 (?:s|min)$/, ""));
    tick.style.left = `${(at / (span || 1)) * 100}%`;
    bars.append(tick);
  }
  return make("div", { class: "lane axis", "aria-hidden": "true" }, make("div", { class: "name" }, "since the first node"), bars);
}

/** @param {Command} command @param {boolean} titled */
function commandBlock(command, titled) {
  const block = make("div", { class: "command" });
  if (titled) block.append(make("h3", {}, command.label));
  command.lanes.forEach((lane, index) => {
    const isMain = lane.name === "MainThread";
    const title = isMain ? "hooks" : lane.name ? lane.name.split(" ")[0] : `${index + 1}`;
    const idle = isMain ? "" : `, idle ${duration(lane.idle)}`;
    const name = make("div", { class: "name" }, title, make("span", { class: "optional" }, idle));
    name.title = name.textContent ?? "";
    const bars = lane.bars.map(barButton);
    if (bars.length > 0) timeline.rows.push(bars);
    const group = make("div", { class: "bars", role: "group", "aria-label": `${command.label}, ${title}: ${counted(lane.bars.length, "node")}${idle}` }, ...bars);
    block.append(make("div", { class: "lane" }, name, group));
  });
  return block;
}

/** @param {Bar} bar */
function barButton(bar) {
  const isCritical = critical.has(bar.node);
  const text = `${nameOf(bar.node)}: ${bar.state}, ${duration(bar.end - bar.begin)}, from ${duration(bar.begin)} to ${duration(bar.end)} of the run${isCritical ? ", on the critical path" : ""}`;
  const element = make("button", { type: "button", tabindex: "-1", class: `bar ${style(bar.meaning)}${isCritical ? " critical" : ""}`, "aria-label": text, title: text });
  element.style.left = `${place(bar.begin)}%`;
  element.style.width = `${place(bar.end) - place(bar.begin)}%`;
  timeline.bars.set(element, bar);
  return element;
}

/** Write the names into the bars that have room for them. */
function labelBars() {
  const width = (byId("lanes").clientWidth - 176) / 100;
  for (const row of timeline.rows) {
    for (const element of row) {
      const bar = /** @type {Bar} */ (timeline.bars.get(element));
      const room = (place(bar.end) - place(bar.begin)) * width;
      element.classList.toggle("tiny", room < 8);
      element.textContent = room > 48 ? nameOf(bar.node) : "";
    }
  }
}

/** @param {number} factor 0 for the whole run */
function zoomBy(factor) {
  const scroller = byId("timeline-scroller");
  const middle = (scroller.scrollLeft + scroller.clientWidth / 2) / scroller.scrollWidth;
  timeline.zoom = factor === 0 ? 1 : Math.min(Math.max(timeline.zoom * factor, 1), 256);
  byId("lanes").style.width = `${timeline.zoom * 100}%`;
  scroller.scrollLeft = middle * scroller.scrollWidth - scroller.clientWidth / 2;
  labelBars();
}

/** @param {KeyboardEvent} event */
function moveAmongBars(event) {
  const from = /** @type {HTMLElement} */ (event.target);
  const row = timeline.rows.findIndex((bars) => bars.includes(from));
  if (row < 0) return;
  const bars = timeline.rows[row];
  const at = bars.indexOf(from);
  const middle = (/** @type {HTMLElement} */ element) => { const bar = /** @type {Bar} */ (timeline.bars.get(element)); return (bar.begin + bar.end) / 2; };
  const nearest = (/** @type {HTMLElement[] | undefined} */ others) => others?.reduce((best, other) => (Math.abs(middle(other) - middle(from)) < Math.abs(middle(best) - middle(from)) ? other : best));
  /** @type {Record<string, () => HTMLElement | undefined>} */
  const moves = {
    ArrowLeft: () => bars[at - 1],
    ArrowRight: () => bars[at + 1],
    ArrowUp: () => nearest(timeline.rows[row - 1]),
    ArrowDown: () => nearest(timeline.rows[row + 1]),
    Home: () => bars[0],
    End: () => bars[bars.length - 1],
  };
  const move = moves[event.key];
  if (move === undefined) return;
  event.preventDefault();
  const to = move();
  if (to === undefined) return;
  from.setAttribute("tabindex", "-1");
  to.setAttribute("tabindex", "0");
  to.focus();
}

// The table of nodes.

/** @typedef {{key: string, title: string, number?: boolean, optional?: boolean, value: (node: Node_) => string | number | undefined}} Column */

/** @param {Node_} node */
function changeOf(node) {
  const from = before.get(node.unique_id)?.seconds;
  return from == null || node.seconds === undefined ? undefined : node.seconds - from;
}

/** @type {Column[]} */
const COLUMNS = [
  { key: "name", title: "Node", value: (node) => node.name },
  { key: "kind", title: "Kind", optional: true, value: (node) => node.kind },
  { key: "state", title: "State", value: (node) => MEANINGS.indexOf(node.meaning) },
  { key: "seconds", title: "Seconds", number: true, value: (node) => node.seconds },
  ...(run.comparison ? [{ key: "change", title: "Change", number: true, value: changeOf }] : []),
  { key: "rows", title: "Rows", number: true, optional: true, value: (node) => node.rows },
  { key: "failures", title: "Failures", number: true, optional: true, value: (node) => node.failures },
  { key: "message", title: "Message", optional: true, value: (node) => node.message },
];

const changed = new Set(run.comparison ? [...run.comparison.slower, ...run.comparison.faster, ...run.comparison.broken, ...run.comparison.repaired, ...run.comparison.added] : []);
const slowest = new Set([...run.nodes].filter((node) => node.seconds !== undefined).sort((a, b) => (b.seconds ?? 0) - (a.seconds ?? 0)).slice(0, SLOWEST).map((node) => node.unique_id));

/** @type {Record<string, {title: string, keeps: (node: Node_) => boolean}>} */
const FILTERS = {
  all: { title: "All", keeps: () => true },
  failed: { title: "Failed", keeps: (node) => node.meaning === "failure" },
  warned: { title: "Warned", keeps: (node) => node.meaning === "warning" },
  unbuilt: { title: "Not built", keeps: (node) => node.meaning === "skipped" || node.meaning === "not run" },
  slowest: { title: "Slowest", keeps: (node) => slowest.has(node.unique_id) },
  ...(run.comparison ? { changed: { title: "Changed", keeps: (/** @type {Node_} */ node) => changed.has(node.unique_id) } } : {}),
};

const view = { filter: "all", search: "", sort: "", descending: false, page: 0 };

/** @returns {Node_[]} */
function matching() {
  const words = view.search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = run.nodes.filter((node) => {
    if (!FILTERS[view.filter].keeps(node)) return false;
    if (words.length === 0) return true;
    const text = [node.unique_id, node.name, node.kind, node.state, node.path, node.message].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const column = COLUMNS.find((candidate) => candidate.key === view.sort);
  if (column) {
    const sign = view.descending ? -1 : 1;
    found.sort((a, b) => {
      const left = column.value(a);
      const right = column.value(b);
      // What says nothing comes last, whatever the order.
      if (left === undefined || right === undefined) return Number(left === undefined) - Number(right === undefined);
      return sign * (typeof left === "number" ? left - Number(right) : left.localeCompare(String(right)));
    });
  }
  return found;
}

function showTable() {
  const tools = byId("table-tools");
  const search = /** @type {HTMLInputElement} */ (make("input", { type: "search", placeholder: "Search", "aria-label": "Search names, files and messages" }));
  search.addEventListener("input", () => { view.search = search.value; view.page = 0; fillTable(); });
  const filters = make("div", { class: "group", role: "group", "aria-label": "Which nodes" });
  for (const [key, filter] of Object.entries(FILTERS)) {
    const count = run.nodes.filter(filter.keeps).length;
    const choice = button(`${filter.title} ${count.toLocaleString("en")}`, () => {
      view.filter = key;
      view.page = 0;
      if (key === "slowest") { view.sort = "seconds"; view.descending = true; }
      if (key === "changed") { view.sort = "change"; view.descending = true; }
      for (const other of filters.children) other.setAttribute("aria-pressed", String(other === choice));
      fillTable();
    }, { "aria-pressed": String(key === view.filter) });
    filters.append(choice);
  }
  tools.append(search, filters, button("Download CSV", downloadCsv, { class: "push" }));
  const heads = COLUMNS.map((column) => {
    const sorter = button(column.title, () => {
      // Numbers are of interest from the greatest down, words from A.
      view.descending = view.sort === column.key ? !view.descending : Boolean(column.number);
      view.sort = column.key;
      view.page = 0;
      fillTable();
    });
    return make("th", { scope: "col", class: columnClass(column), "data-key": column.key }, sorter);
  });
  byId("table").append(make("caption", { hidden: "" }, "The nodes of the run"), make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}));
  fillTable();
  // More is printed than what is shown at once.
  window.addEventListener("beforeprint", () => fillTable(PRINTED));
  window.addEventListener("afterprint", () => fillTable());
}

/** @param {Column} column */
const columnClass = (column) => [column.number ? "number" : "", column.optional ? "optional" : ""].join(" ").trim();

function fillTable(size = PAGE) {
  const found = matching();
  const pages = Math.max(Math.ceil(found.length / size), 1);
  view.page = Math.min(view.page, pages - 1);
  const first = view.page * size;
  const rows = found.slice(first, first + size).map(tableRow);
  if (rows.length === 0) rows.push(make("tr", {}, make("td", { colspan: String(COLUMNS.length) }, "No node is like that.")));
  byId("table").querySelector("tbody")?.replaceChildren(...rows);
  for (const head of byId("table").querySelectorAll("th[data-key]")) {
    const isSorted = head.getAttribute("data-key") === view.sort;
    const title = COLUMNS.find((column) => column.key === head.getAttribute("data-key"))?.title ?? "";
    if (isSorted) head.setAttribute("aria-sort", view.descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
    if (head.firstChild) head.firstChild.textContent = title + (isSorted ? (view.descending ? " ↓" : " ↑") : "");
  }
  showPager(found.length, first, rows.length, pages);
}

/** @param {number} total @param {number} first @param {number} count @param {number} pages */
function showPager(total, first, count, pages) {
  const words = pages > 1 ? `${first + 1} to ${first + count} of ${counted(total, "node")}` : counted(total, "node");
  const turn = (/** @type {number} */ by) => () => { view.page += by; fillTable(); byId("nodes").scrollIntoView(); };
  const status = make("span", { role: "status", class: "quiet" }, words);
  const buttons = pages > 1 ? [
    button("Previous", turn(-1), view.page === 0 ? { disabled: "" } : {}),
    button("Next", turn(1), view.page === pages - 1 ? { disabled: "" } : {}),
  ] : [];
  byId("pager").replaceChildren(status, ...buttons);
}

/** @param {Node_} node */
function tableRow(node) {
  const row = make("tr", {}, make("th", { scope: "row" }, nodeLink(node.unique_id)));
  for (const column of COLUMNS.slice(1)) row.append(tableCell(column, node));
  return row;
}

/** @param {Column} column @param {Node_} node */
function tableCell(column, node) {
  const cell = make("td", { class: columnClass(column) });
  if (column.key === "state") {
    cell.append(stateMark(node.state, node.meaning));
  } else if (column.key === "seconds") {
    cell.append(node.seconds === undefined ? "" : node.seconds.toFixed(2));
  } else if (column.key === "change") {
    const difference = changeOf(node);
    const from = before.get(node.unique_id)?.seconds ?? 0;
    if (difference !== undefined) {
      cell.append(change(from, from + difference));
      if (run.comparison?.slower.includes(node.unique_id)) cell.classList.add("worse");
      if (run.comparison?.faster.includes(node.unique_id)) cell.classList.add("better");
    } else if (run.comparison) {
      cell.append(before.has(node.unique_id) ? "" : "new");
    }
  } else if (column.key === "message") {
    const text = node.message ?? ((node.because ?? []).length > 0 ? `upstream: ${(node.because ?? []).map(nameOf).join(", ")}` : "");
    cell.classList.add("message");
    cell.append(text.split("\n").filter((line) => line.trim()).join(" ").slice(0, 300));
    cell.title = text.slice(0, 1000);
  } else {
    const value = column.value(node);
    cell.append(typeof value === "number" ? value.toLocaleString("en") : value ?? "");
  }
  return cell;
}

// CSV, as `reporting/tables.py` writes it.

/** Return a text that no spreadsheet takes for a formula. @param {string} text */
const harmless = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text);
/** @param {string} text */
const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** @param {Node_[]} shown */
function csvOf(shown) {
  const lines = [["unique_id", "name", "kind", "state", "seconds", "seconds_before", "change", "rows", "failures", "attempt", "started_at", "finished_at", "file", "message"]];
  for (const node of shown) {
    const difference = changeOf(node);
    lines.push([
      harmless(node.unique_id), harmless(node.name), harmless(node.kind), harmless(node.state),
      node.seconds?.toFixed(3) ?? "", before.get(node.unique_id)?.seconds?.toFixed(3) ?? "", difference?.toFixed(3) ?? "",
      String(node.rows ?? ""), String(node.failures ?? ""), String(node.attempt ?? 1), node.started_at ?? "", node.finished_at ?? "",
      harmless(node.path ?? ""), harmless(node.message ?? ""),
    ]);
  }
  return lines.map((line) => `${line.map(quoted).join(",")}\r\n`).join("");
}

function downloadCsv() {
  const url = URL.createObjectURL(new Blob([csvOf(matching())], { type: "text/csv;charset=utf-8" }));
  const link = /** @type {HTMLAnchorElement} */ (make("a", { href: url, download: "nodes.csv" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// One node.

const dialog = /** @type {HTMLDialogElement} */ (byId("node"));

/** @param {string} id */
function openNode(id) {
  const node = nodes.get(id);
  if (node === undefined) return;
  const close = button("Close", () => dialog.close());
  const head = make("div", { class: "bar-top" }, make("h2", { id: "node-heading" }, node.name), close);
  dialog.replaceChildren(head, make("p", { class: "quiet" }, make("code", {}, node.unique_id)), ...nodeParts(node));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  close.focus();
  remember(`#node=${encodeURIComponent(id)}`);
}

/** Put a place into the address, so that it can be sent to others. @param {string} hash */
function remember(hash) {
  try {
    history.replaceState(null, "", hash || location.pathname + location.search);
  } catch {
    // Some browsers refuse this for a file.
  }
}

/** @param {Node_} node @returns {Node[]} */
function nodeParts(node) {
  /** @type {Node[]} */
  const parts = [nodeFacts(node)];
  const add = (/** @type {string} */ title, /** @type {Node} */ content) => parts.push(make("h3", {}, title), content);
  if (node.message) add(node.meaning === "failure" ? "Error" : "Message", make("pre", {}, node.message));
  if (node.sql) add("SQL that was sent", make("pre", {}, node.sql));
  if (node.because?.length) add("Not built because of", nodeList(node.because));
  const blocked = blockedBy.get(node.unique_id) ?? [];
  if (blocked.length > 0) add(`${counted(blocked.length, "node")} not built because of it`, nodeList(blocked));
  if (node.description) add("Description", make("p", {}, node.description));
  if (node.tests?.length) add("Tests", stateList(node.tests));
  if (node.columns?.length) add("Columns", columnTable(node.columns));
  if (node.batches?.length) add(`Batches, ${node.batches.length} of ${node.batch_count ?? node.batches.length}`, batchList(node.batches));
  if (node.depends_on?.length) add("Depends on", stateList(node.depends_on));
  const tries = run.commands.flatMap((command) => command.lanes.flatMap((lane) => lane.bars.filter((bar) => bar.node === node.unique_id).map((bar) => ({ command, bar }))));
  if (tries.length > 1) {
    const lines = tries.map(({ command, bar }) => make("li", {}, stateMark(bar.state, bar.meaning), ` ${command.label}, ${duration(bar.end - bar.begin)}`));
    add("Tries", make("ul", {}, ...lines));
  }
  return parts;
}

/** @param {Node_} node */
function nodeFacts(node) {
  const list = make("dl", {});
  const add = (/** @type {string} */ title, /** @type {string | Node | undefined} */ value) => {
    if (value !== undefined && value !== "") list.append(make("dt", {}, title), make("dd", {}, value));
  };
  add("State", stateMark(node.state, node.meaning));
  add("Why", node.not_run);
  add("Kind", [node.kind, node.materialized].filter(Boolean).join(", "));
  add("File", node.path);
  add("Relation", node.relation);
  add("Took", node.seconds === undefined ? undefined : duration(node.seconds));
  const old = before.get(node.unique_id);
  if (old) add("Before", [old.state, old.seconds == null ? "" : duration(old.seconds)].filter(Boolean).join(", "));
  add("Began", node.started_at && clock(node.started_at));
  add("Ended", node.finished_at && clock(node.finished_at));
  add("Rows", node.rows?.toLocaleString("en"));
  add("Failures", node.failures?.toLocaleString("en"));
  add("Last row loaded", node.age === undefined ? undefined : `${duration(node.age)} before`);
  add("Attempt", (node.attempt ?? 1) > 1 ? String(node.attempt) : undefined);
  return list;
}

/** @param {string[]} ids */
function stateList(ids) {
  const items = ids.map((id) => {
    const other = nodes.get(id);
    return make("li", {}, nodeLink(id), " ", other ? stateMark(other.state, other.meaning) : make("span", { class: "quiet" }, "not in this run"));
  });
  return make("ul", {}, ...items);
}

/** @param {{name: string, type?: string, description?: string}[]} columns */
function columnTable(columns) {
  const rows = columns.map((column) => make("tr", {}, make("th", { scope: "row" }, column.name), make("td", {}, column.type ?? ""), make("td", {}, column.description ?? "")));
  const heads = ["Column", "Type", "Description"].map((name) => make("th", { scope: "col" }, name));
  return make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows));
}

/** @param {{index: number, status: string, execution_time?: number}[]} batches */
function batchList(batches) {
  return make("ol", {}, ...batches.map((batch) => make("li", { value: String(batch.index) }, `${batch.status}${batch.execution_time === undefined ? "" : `, ${duration(batch.execution_time)}`}`)));
}

/** Go where the address points: to a node, or to a section, which was empty when the browser looked for it. */
function goToHash() {
  const named = /^#node=(.+)$/.exec(location.hash);
  if (!named) {
    document.getElementById(location.hash.slice(1))?.scrollIntoView();
    return;
  }
  try {
    openNode(decodeURIComponent(named[1]));
  } catch {
    // It is no address of ours.
  }
}

showHead();
showCauses();
showChanges();
showTimeline();
showTable();
if (run.notes.length > 0) {
  byId("notes").hidden = false;
  byId("note-list").append(...run.notes.map((note) => make("li", {}, note)));
}
showContents();
dialog.addEventListener("close", () => remember(""));
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
window.addEventListener("hashchange", goToHash);
goToHash();
