/** Timeline: a lane for each thread of dbt, a bar for each node, with the times that dbt gives; all attempts. */
import {
  type CSSProperties,
  type KeyboardEvent,
  memo,
  useEffect,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { Button } from "react-aria-components";
import { clock, counted, duration, secondsBetween } from "../model/format";
import { commandsOf, MAIN_THREAD, roomFor, startOf, stepOf, titleOf } from "../model/lanes";
import { classOf, type Look, SIGNS, WORDS } from "../model/looks";
import type { Bar, Command } from "../types";
import { openNode, useMedia, useNodes, useRun, useServerNow } from "./hooks";
import { Empty, NodeLink, Unfolding } from "./parts";

const LABEL = 176;
const LABEL_NARROW = 84;
const TICK = 110;
const MOST = 4096;
/** A bar narrower than this has no room for its name, in pixels. */
const NAMED = 44;

export function Timeline() {
  const run = useRun();
  const nodes = useNodes();
  const commands = useMemo(() => commandsOf(run), [run]);
  const scroller = useRef<HTMLDivElement>(null);
  const width = useWidth(scroller);
  const isNarrow = useMedia("(max-width: 45rem)");
  const [zoom, setZoom] = useState(1);
  const limit = useGrowing(commands.reduce((sum, command) => sum + barsIn(command), 0));
  const critical = useMemo(() => new Set(run.live.is_over ? run.record.critical_path?.nodes : []), [run]);
  // It is that of the tries that had the last word.
  const criticalIn = useMemo(
    () => (attempt: number) => new Set([...critical].filter((id) => (nodes.get(id)?.attempt ?? 1) === attempt)),
    [critical, nodes],
  );
  const start = useMemo(() => startOf(run), [run]);
  const now = secondsBetween(start, useServerNow());
  if (commands.length === 0) {
    return <Empty>{run.live.is_over ? "No node ran." : "No node has begun."}</Empty>;
  }
  const isGoing = (command: Command) => !run.live.is_over && command === commands.at(-1);
  // Each command counts from its own first node: there may be hours between two attempts.
  const spanOf = (command: Command) =>
    isGoing(command) ? roomFor(Math.max(now, command.end) - command.begin) : command.end - command.begin;
  const span = Math.max(...commands.map(spanOf), 1e-3);
  const label = isNarrow ? LABEL_NARROW : LABEL;
  const scale = (Math.max(width - label - 2, 100) / span) * zoom;
  const nameOf = (id: string) => nodes.get(id)?.name ?? id;
  let placed = 0;

  function zoomBy(factor: number) {
    const box = scroller.current;
    const middle = box ? (box.scrollLeft + box.clientWidth / 2) / box.scrollWidth : 0;
    setZoom((before) => (factor === 0 ? 1 : Math.min(Math.max(before * factor, 1), MOST)));
    requestAnimationFrame(() => {
      if (box) box.scrollLeft = middle * box.scrollWidth - box.clientWidth / 2;
    });
  }

  return (
    <div className="timeline">
      <div className="tools">
        <div className="group" role="group" aria-label="Zoom">
          <Button className="button" aria-label="Zoom out" onPress={() => zoomBy(1 / 2)} isDisabled={zoom === 1}>
            −
          </Button>
          <Button className="button" aria-label="Zoom in" onPress={() => zoomBy(2)}>
            +
          </Button>
          <Button className="button" aria-label="Fit the whole run" onPress={() => zoomBy(0)} isDisabled={zoom === 1}>
            Fit
          </Button>
        </div>
        <Legend hasCritical={critical.size > 1} />
      </div>
      <div className="scroller lanes-scroller" ref={scroller}>
        <div
          className="lanes"
          style={
            { "--scale": scale, "--label": `${label}px`, "--now": now, width: label + span * scale } as CSSProperties
          }
          role="group"
          aria-label="Timeline. Arrow keys move from bar to bar, Enter opens a node."
          onKeyDown={moveAmongBars}
        >
          {commands.map((command, index) => {
            const room = limit - placed;
            placed += barsIn(command);
            return (
              <CommandBlock
                key={`${command.attempt} ${command.label} ${command.begin}`}
                command={command}
                startedAt={commands.length > 1 ? start + command.begin * 1000 : null}
                isFirst={index === 0}
                span={span}
                scale={scale}
                critical={criticalIn(command.attempt)}
                nameOf={nameOf}
                isGoing={isGoing(command)}
                room={room}
              />
            );
          })}
        </div>
      </div>
      <Hints commands={commands} />
      <CriticalPath />
    </div>
  );
}

const barsIn = (command: Command) => command.lanes.reduce((sum, lane) => sum + lane.bars.length, 0);

/** So many bars come into the page with each frame, so that thousands do not stop it. */
const AT_ONCE = 300;

/** Return how many of `total` things to show: more with each frame, until it is all of them. */
function useGrowing(total: number): number {
  const [limit, setLimit] = useState(AT_ONCE);
  useEffect(() => {
    if (limit >= total) return;
    const frame = requestAnimationFrame(() => setLimit(limit + AT_ONCE));
    return () => cancelAnimationFrame(frame);
  }, [limit, total]);
  return limit;
}

function useWidth(element: React.RefObject<HTMLElement | null>): number {
  const [width, setWidth] = useState(900);
  useLayoutEffect(() => {
    const box = element.current;
    if (!box) return;
    setWidth(box.clientWidth);
    const observer = new ResizeObserver(() => setWidth(box.clientWidth));
    observer.observe(box);
    return () => observer.disconnect();
  }, [element]);
  return width;
}

const LEGEND: Look[] = ["success", "warning", "failure", "running"];

function Legend({ hasCritical }: { hasCritical: boolean }) {
  return (
    <ul className="legend small" aria-label="What the bars mean">
      {LEGEND.map((look) => (
        <li key={look}>
          <span className={`swatch ${classOf(look)}`} aria-hidden="true" /> {WORDS[look]}
        </li>
      ))}
      {hasCritical && (
        <li>
          <span className="swatch critical" aria-hidden="true" /> critical path
        </li>
      )}
      <li>
        <span className="swatch idle" aria-hidden="true" /> idle
      </li>
    </ul>
  );
}

function Axis({ span, scale }: { span: number; scale: number }) {
  const step = stepOf(span, (span * scale) / TICK);
  const ticks: number[] = [];
  for (let at = 0; at * scale <= span * scale - 40 && ticks.length < 2000; at += step) ticks.push(at);
  return (
    <div className="lane axis" aria-hidden="true">
      <div className="name">
        since<span className="optional"> the first node</span>
      </div>
      <div className="bars">
        {ticks.map((at) => (
          <span className="tick" key={at} style={{ left: at * scale }}>
            {duration(at).replace(/ 0 (?:s|min)$/, "")}
          </span>
        ))}
      </div>
    </div>
  );
}

interface CommandBlockProps {
  command: Command;
  /** When its first node began, in milliseconds; null where it is the only command. */
  startedAt: number | null;
  isFirst: boolean;
  isGoing: boolean;
  span: number;
  /** How many bars may be shown as yet. */
  room: number;
  scale: number;
  critical: ReadonlySet<string>;
  nameOf: (id: string) => string;
}

function CommandBlock({
  command,
  startedAt,
  isFirst,
  isGoing,
  span,
  room,
  scale,
  critical,
  nameOf,
}: CommandBlockProps) {
  let left = room;
  const firstLane = command.lanes.findIndex((lane) => lane.bars.length > 0);
  return (
    <section className="command" aria-label={command.label} style={{ "--begin": command.begin } as CSSProperties}>
      {startedAt !== null && (
        <h3>
          {command.label} <span className="quiet">from {clock(new Date(startedAt).toISOString())}</span>
        </h3>
      )}
      <Axis span={span} scale={scale} />
      {command.lanes.map((lane, index) => {
        const title = titleOf(lane);
        const isMain = lane.name === MAIN_THREAD;
        const bars = lane.bars.slice(0, Math.max(left, 0));
        left -= lane.bars.length;
        const idle = isMain || isGoing ? "" : `, idle ${duration(lane.idle)}`;
        return (
          // biome-ignore lint/suspicious/noArrayIndexKey: lanes without a name are told apart by their place alone
          <div className="lane" key={`${lane.name} ${index}`}>
            <div className="name" title={title + idle}>
              {title}
              <span className="optional">{idle}</span>
            </div>
            <div className="bars" role="group" aria-label={`${title}: ${counted(lane.bars.length, "node")}${idle}`}>
              {!isMain && <IdleStretch command={command} isGoing={isGoing} />}
              <Bars
                bars={bars}
                isFirst={isFirst && index === firstLane}
                scale={scale}
                critical={critical}
                nameOf={nameOf}
              />
            </div>
          </div>
        );
      })}
    </section>
  );
}

/** What lies behind the bars of a lane: time in which its thread could have run nodes. */
function IdleStretch({ command, isGoing }: { command: Command; isGoing: boolean }) {
  const end = isGoing ? "var(--now)" : String(command.end);
  const style = {
    left: `calc(var(--scale) * (${command.begin} - var(--begin)) * 1px)`,
    width: `calc(var(--scale) * (${end} - ${command.begin}) * 1px)`,
  };
  return <div className="idle" style={style} />;
}

interface BarsProps {
  bars: readonly Bar[];
  isFirst: boolean;
  scale: number;
  critical: ReadonlySet<string>;
  nameOf: (id: string) => string;
}

function Bars({ bars, isFirst, scale, critical, nameOf }: BarsProps) {
  return bars.map((bar, index) => (
    <BarButton
      key={bar.node}
      node={bar.node}
      name={nameOf(bar.node)}
      begin={bar.begin}
      end={bar.end}
      state={bar.state}
      look={lookOfBar(bar)}
      isNamed={(bar.end - bar.begin) * scale > NAMED}
      isCritical={critical.has(bar.node)}
      isFirst={isFirst && index === 0}
    />
  ));
}

const lookOfBar = (bar: Bar): Look => (bar.meaning === "open" && bar.state === "running" ? "running" : bar.meaning);

interface BarButtonProps {
  node: string;
  name: string;
  begin: number;
  end: number;
  state: string;
  look: Look;
  isNamed: boolean;
  isCritical: boolean;
  isFirst: boolean;
}

const BarButton = memo(function BarButton({
  node,
  name,
  begin,
  end,
  state,
  look,
  isNamed,
  isCritical,
  isFirst,
}: BarButtonProps) {
  const isRunning = look === "running";
  const times = isRunning ? "" : `, ${duration(end - begin)}, from ${duration(begin)} to ${duration(end)} of the run`;
  const text = `${name}: ${state}${times}${isCritical ? ", on the critical path" : ""}`;
  const style = {
    left: `calc(var(--scale) * (${begin} - var(--begin)) * 1px)`,
    width: `calc(var(--scale) * (${isRunning ? "var(--now)" : end} - ${begin}) * 1px)`,
  };
  const isMarked = look === "failure" || look === "warning";
  return (
    <button
      type="button"
      tabIndex={isFirst ? 0 : -1}
      className={`bar ${classOf(look)}${isCritical ? " critical" : ""}${isNamed ? "" : " tiny"}`}
      aria-label={text}
      title={text}
      style={style}
      data-middle={(begin + end) / 2}
      onClick={() => openNode(node)}
    >
      {isNamed ? `${isMarked ? `${SIGNS[look]} ` : ""}${name}` : ""}
    </button>
  );
});

/** Move among the bars with the arrow keys: along a lane, or to the bar of another lane that is nearest in time. */
function moveAmongBars(event: KeyboardEvent<HTMLElement>): void {
  const from = event.target;
  if (!(from instanceof HTMLElement) || !from.classList.contains("bar")) return;
  const lanes = [...event.currentTarget.querySelectorAll(".bars[role=group]")].flatMap((lane) => {
    const bars = [...lane.querySelectorAll<HTMLElement>(".bar")];
    return bars.length > 0 ? [bars] : [];
  });
  const row = lanes.findIndex((bars) => bars.includes(from));
  const bars = lanes[row] ?? [];
  const at = bars.indexOf(from);
  const middle = (bar: HTMLElement) => Number(bar.dataset.middle);
  const nearest = (others: HTMLElement[] | undefined) =>
    others?.reduce((best, other) =>
      Math.abs(middle(other) - middle(from)) < Math.abs(middle(best) - middle(from)) ? other : best,
    );
  const to = (() => {
    switch (event.key) {
      case "ArrowLeft":
        return bars[at - 1];
      case "ArrowRight":
        return bars[at + 1];
      case "ArrowUp":
        return nearest(lanes[row - 1]);
      case "ArrowDown":
        return nearest(lanes[row + 1]);
      case "Home":
        return bars[0];
      case "End":
        return bars.at(-1);
      default:
        return undefined;
    }
  })();
  if (!to) return;
  event.preventDefault();
  from.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
}

function Hints({ commands }: { commands: readonly Command[] }) {
  const { live } = useRun();
  const idle = commands.flatMap((command) => command.lanes).reduce((sum, lane) => sum + lane.idle, 0);
  const isGuessed = commands.some((command) => !command.has_threads);
  const what = commands.some((command) => command.has_threads) ? "threads" : "lanes";
  return (
    <p className="hint">
      {live.is_over && `Together, the ${what} were idle for ${duration(idle)}. `}
      {isGuessed && "Which thread of dbt ran a node is not known; lanes with numbers are worked out from the times. "}
      Arrow keys move from bar to bar; Enter opens a node.
    </p>
  );
}

function CriticalPath() {
  const { record, live } = useRun();
  const nodes = useNodes();
  const path = record.critical_path;
  if (!live.is_over || !path || path.nodes.length < 2) return null;
  return (
    <Unfolding title={`Critical path: ${duration(path.seconds)}, ${counted(path.nodes.length, "node")}`} level={3}>
      {() => (
        <>
          <p className="hint">
            The chain of nodes that waited for each other and took the longest. More threads make no run shorter than
            that.
          </p>
          <ol className="path">
            {path.nodes.map((id) => (
              <li key={id}>
                <NodeLink id={id} /> <span className="quiet">{duration(nodes.get(id)?.seconds ?? 0)}</span>
              </li>
            ))}
          </ol>
        </>
      )}
    </Unfolding>
  );
}
