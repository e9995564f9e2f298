/** Table: every node, to be searched, filtered and sorted. Only the rows in sight are in the page, so thousands cost as much as fifty. */
import {
  createColumnHelper,
  getCoreRowModel,
  getSortedRowModel,
  type SortingState,
  useReactTable,
} from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, useDeferredValue, useMemo, useRef, useState } from "react";
import { Button, Input, Label, SearchField, ToggleButton, ToggleButtonGroup } from "react-aria-components";
import { go, useStore } from "../data/store";
import { follow } from "../host";
import { csvOf } from "../model/csv";
import { change, counted, number, oneLine } from "../model/format";
import { wordOf } from "../model/looks";
import {
  COLUMNS,
  type ColumnKey,
  FILTERS,
  type Filter,
  keepers,
  NUMBERS,
  type Row,
  rowsOf,
  searcher,
  sortValue,
  TITLES,
} from "../model/table";
import { openNode, useLook, useNodes, useRun } from "./hooks";
import { Empty, StateMark } from "./parts";

const HEADS: Record<ColumnKey, string> = {
  name: "Node",
  kind: "Kind",
  state: "State",
  seconds: "Seconds",
  change: "Change",
  rows: "Rows",
  failures: "Failures",
  message: "Message",
};
const OPTIONAL: ReadonlySet<ColumnKey> = new Set(["kind", "change", "rows", "failures", "message"]);
const ROW_HEIGHT = 33;
const PAGE_OF_ROWS = 15;

const helper = createColumnHelper<Row>();
const columns = COLUMNS.map((key) =>
  helper.accessor((row) => sortValue(row, key), {
    id: key,
    sortUndefined: "last",
    // Numbers are of interest from the greatest down, words from A.
    sortDescFirst: NUMBERS.has(key),
    sortingFn: (a, b) => compared(a.getValue(key), b.getValue(key)),
  }),
);

function compared(a: string | number | undefined, b: string | number | undefined): number {
  return typeof a === "number" ? a - Number(b) : (a ?? "").localeCompare(String(b ?? ""));
}

function sortingOf(sort: string): SortingState {
  const id = sort.replace(/^-/, "");
  return COLUMNS.some((column) => column === id) ? [{ id, desc: sort.startsWith("-") }] : [];
}

export function NodeTable() {
  const run = useRun();
  const history = useStore((state) => state.history);
  const { filter, search, sort } = useStore((state) => state.address);
  const lookOf = useLook();
  const sought = useDeferredValue(search);
  const rows = useMemo(() => rowsOf(run.record.nodes, lookOf, history), [run.record.nodes, lookOf, history]);
  const keeps = useMemo(() => keepers(rows), [rows]);
  const data = useMemo(() => {
    const matches = searcher(sought);
    return rows.filter((row) => keeps[filter](row) && matches(row));
  }, [rows, keeps, filter, sought]);
  const sorting = useMemo(() => sortingOf(sort), [sort]);
  const table = useReactTable({
    data,
    columns,
    state: { sorting },
    onSortingChange: (update) => {
      const [first] = typeof update === "function" ? update(sorting) : update;
      go({ sort: first ? `${first.desc ? "-" : ""}${first.id}` : "" }, true);
    },
    getRowId: (row) => row.id,
    getCoreRowModel: getCoreRowModel(),
    getSortedRowModel: getSortedRowModel(),
  });
  const shown = table.getRowModel().rows;
  const choose = (chosen: Filter) => {
    const order = chosen === "slowest" ? "-seconds" : chosen === "changed" ? "-change" : sort;
    go({ filter: chosen, sort: order }, true);
  };
  return (
    <div className="table-view">
      <div className="tools">
        <SearchField className="search" value={search} onChange={(value) => go({ search: value }, true)}>
          <Label className="visually-hidden">Search names, files and messages</Label>
          <Input placeholder="Search" />
          <Button className="clear" aria-label="Clear the search">
            ✕
          </Button>
        </SearchField>
        <ToggleButtonGroup
          className="group"
          aria-label="Which nodes"
          selectionMode="single"
          disallowEmptySelection
          selectedKeys={[filter]}
          onSelectionChange={([chosen]) => chosen && choose(chosen as Filter)}
        >
          {FILTERS.filter((key) => isOffered(key, run.live.is_over, history !== null)).map((key) => (
            <ToggleButton key={key} id={key} className="toggle">
              {TITLES[key]} <span className="count">{number(rows.filter(keeps[key]).length)}</span>
            </ToggleButton>
          ))}
        </ToggleButtonGroup>
        <Button className="button push" onPress={() => download(shown.map((row) => row.original))}>
          Download CSV
        </Button>
      </div>
      <Grid
        rows={shown.map((row) => row.original)}
        sorting={sorting}
        onSort={(id) => table.getColumn(id)?.toggleSorting()}
      />
      <p className="quiet status" role="status">
        {shown.length === rows.length
          ? counted(rows.length, "node")
          : `${number(shown.length)} of ${counted(rows.length, "node")}`}
        {history && history.runs.length > 0
          ? `; change is against the median of the last ${counted(history.runs.length, "run")}`
          : ""}
      </p>
    </div>
  );

  function download(nodes: Row[]) {
    const text = csvOf(
      nodes.map((row) => row.node),
      history,
    );
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    follow(url, "nodes.csv");
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }
}

function isOffered(filter: Filter, isOver: boolean, hasHistory: boolean): boolean {
  if (filter === "running") return !isOver;
  return filter !== "changed" || hasHistory;
}

function Grid({ rows, sorting, onSort }: { rows: Row[]; sorting: SortingState; onSort: (id: ColumnKey) => void }) {
  const scroller = useRef<HTMLDivElement>(null);
  const [current, setCurrent] = useState(0);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_HEIGHT,
    overscan: 10,
  });
  const items = virtual.getVirtualItems();
  const before = items[0]?.start ?? 0;
  const after = virtual.getTotalSize() - (items.at(-1)?.end ?? 0);
  const reachable = Math.min(current, rows.length - 1);

  function move(event: KeyboardEvent) {
    const moves: Record<string, number> = {
      ArrowDown: reachable + 1,
      ArrowUp: reachable - 1,
      PageDown: reachable + PAGE_OF_ROWS,
      PageUp: reachable - PAGE_OF_ROWS,
      Home: 0,
      End: rows.length - 1,
    };
    const wanted = moves[event.key];
    if (wanted === undefined || !(event.target instanceof HTMLElement) || !event.target.closest("tbody")) return;
    event.preventDefault();
    const to = Math.min(Math.max(wanted, 0), rows.length - 1);
    setCurrent(to);
    virtual.scrollToIndex(to);
    // The row may come into the page only with the next frames.
    const focus = (tries: number) => {
      const button = scroller.current?.querySelector<HTMLElement>(`tr[data-index="${to}"] button`);
      if (button) button.focus({ preventScroll: true });
      else if (tries > 0) requestAnimationFrame(() => focus(tries - 1));
    };
    requestAnimationFrame(() => focus(20));
  }

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the keys are those of the rows' buttons
    <div className="scroller grid" ref={scroller} onKeyDown={move} tabIndex={rows.length === 0 ? 0 : -1}>
      <table aria-rowcount={rows.length + 1} className="nodes">
        <caption className="visually-hidden">
          The nodes of the run. Arrow keys move from node to node, Enter opens one.
        </caption>
        <thead>
          <tr aria-rowindex={1}>
            {COLUMNS.map((key) => {
              const sorted = sorting.find(({ id }) => id === key);
              return (
                <th
                  key={key}
                  scope="col"
                  className={classesOf(key)}
                  aria-sort={sorted ? (sorted.desc ? "descending" : "ascending") : undefined}
                >
                  <Button onPress={() => onSort(key)}>
                    {HEADS[key]}
                    <span aria-hidden="true" className="order">
                      {sorted ? (sorted.desc ? " ↓" : " ↑") : ""}
                    </span>
                  </Button>
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody>
          {before > 0 && <Spacer height={before} />}
          {items.map((item) => {
            const row = rows[item.index];
            if (!row) return null;
            return (
              <TableRow
                key={row.id}
                row={row}
                index={item.index}
                isReachable={item.index === reachable}
                onFocus={setCurrent}
              />
            );
          })}
          {after > 0 && <Spacer height={after} />}
        </tbody>
      </table>
      {rows.length === 0 && <Empty>No node is like that.</Empty>}
    </div>
  );
}

function Spacer({ height }: { height: number }) {
  return (
    // biome-ignore lint/a11y/noAriaHiddenOnFocusable: nothing in it can have the focus
    <tr aria-hidden="true" className="spacer">
      <td colSpan={COLUMNS.length} style={{ height }} />
    </tr>
  );
}

const classesOf = (key: ColumnKey) =>
  [`column-${key}`, NUMBERS.has(key) ? "number" : "", OPTIONAL.has(key) ? "optional" : ""].filter(Boolean).join(" ");

interface TableRowProps {
  row: Row;
  index: number;
  isReachable: boolean;
  onFocus: (index: number) => void;
}

function TableRow({ row, index, isReachable, onFocus }: TableRowProps) {
  const open = useStore((state) => state.address.node === row.id);
  const { node } = row;
  return (
    <tr data-index={index} aria-rowindex={index + 2} className={open ? "open" : ""}>
      <th scope="row" className={classesOf("name")}>
        <Button
          className="link"
          excludeFromTabOrder={!isReachable}
          onFocus={() => onFocus(index)}
          onPress={() => openNode(row.id)}
        >
          {node.name}
        </Button>
      </th>
      <td className={classesOf("kind")}>{node.kind}</td>
      <td className={classesOf("state")}>
        <StateMark look={row.look}>{wordOf(node, row.look)}</StateMark>
      </td>
      <td className={classesOf("seconds")}>{node.seconds == null ? "" : node.seconds.toFixed(2)}</td>
      <td className={classesOf("change")}>
        {row.change !== null && row.before !== null && (
          <span className={row.isChanged ? (row.change > 0 ? "worse" : "better") : "quiet"}>
            {change(row.before, row.before + row.change)}
          </span>
        )}
      </td>
      <td className={classesOf("rows")}>{node.rows == null ? "" : number(node.rows)}</td>
      <td className={classesOf("failures")}>{node.failures == null ? "" : number(node.failures)}</td>
      <MessageCell row={row} />
    </tr>
  );
}

function MessageCell({ row }: { row: Row }) {
  const { node } = row;
  const nodes = useNodes();
  const upstream = node.because?.length
    ? `upstream: ${node.because.map((id) => nodes.get(id)?.name ?? id).join(", ")}`
    : "";
  const text = node.message ?? (upstream || (row.look === "waiting" ? "" : (node.not_run ?? "")));
  return (
    <td className={classesOf("message")} title={text.slice(0, 1000)}>
      {oneLine(text)}
    </td>
  );
}
