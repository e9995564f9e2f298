/** Now: what dbt does at this second, and when it will be through. */
import { useMemo } from "react";
import { Button } from "react-aria-components";
import { go, useStore } from "../data/store";
import { causesOf } from "../model/causes";
import { clock, counted, duration, number, running, secondsBetween, timeOfDay } from "../model/format";
import type { Filter } from "../model/table";
import type { Counts, Phase } from "../types";
import { useLook, useNodes, useRun, useServerNow } from "./hooks";
import { NodeLink, NodeList, StateMark } from "./parts";

const PHASES: [Phase, string][] = [
  ["waiting", "waiting"],
  ["pod", "pod"],
  ["parsing", "dbt parses"],
  ["running", "dbt runs nodes"],
  ["over", "over"],
];

export function Now() {
  const { live } = useRun();
  return (
    <div className="now">
      <Phases />
      <Numbers counts={live.counts} />
      {live.is_over ? <Over /> : <Going />}
      {live.notes.length > 0 && (
        <section>
          <h2>Not known</h2>
          <ul>
            {live.notes.map((note) => (
              <li key={note}>{note}</li>
            ))}
          </ul>
        </section>
      )}
    </div>
  );
}

function Phases() {
  const { live } = useRun();
  const at = PHASES.findIndex(([phase]) => phase === live.phase);
  return (
    <section aria-label="Phase">
      <ol className="phases">
        {PHASES.map(([phase, title], index) => (
          <li
            key={phase}
            className={index < at ? "past" : index === at ? "present" : ""}
            aria-current={index === at ? "step" : undefined}
          >
            {title}
          </li>
        ))}
      </ol>
      {live.phase_text && <p className="phase-text">{live.phase_text}</p>}
    </section>
  );
}

const NUMBERS: [keyof Counts, string, string, Filter | null][] = [
  ["done", "done", "success", null],
  ["running", "running", "running", "running"],
  ["waiting", "waiting", "waiting", null],
  ["failed", "failed", "failure", "failed"],
  ["warned", "warned", "warning", "warned"],
  ["skipped", "not built", "skipped", "unbuilt"],
];

function Numbers({ counts }: { counts: Counts }) {
  return (
    <ul className="numbers" aria-label={`${number(counts.total)} nodes in all`}>
      {NUMBERS.map(([key, title, style, filter]) => {
        const count = counts[key] ?? 0;
        const content = (
          <>
            <strong>{number(count)}</strong> <span>{title}</span>
          </>
        );
        return (
          <li key={key} className={count > 0 ? style : "none"}>
            {filter && count > 0 ? (
              <Button className="number" onPress={() => go({ view: "table", filter })}>
                {content}
              </Button>
            ) : (
              <div className="number">{content}</div>
            )}
          </li>
        );
      })}
    </ul>
  );
}

function Going() {
  const run = useRun();
  const { live } = run;
  const now = useServerNow();
  const causes = causesOf(run);
  return (
    <>
      <p className="estimate">{estimate(live.estimated_end, now, live.counts)}</p>
      {causes.length > 0 && (
        <section className="alarm">
          <h2>Failed so far</h2>
          <NodeList ids={causes.flatMap((cause) => (cause.node ? [cause.node] : [])).slice(0, 10)} withState />
          <p>
            <Button className="button" onPress={() => go({ view: "why" })}>
              Why
            </Button>
          </p>
        </section>
      )}
      <section>
        <h2>Running now</h2>
        <Running now={now} />
      </section>
      <Latest title="Done last" />
    </>
  );
}

function estimate(end: string | null, now: number, counts: Counts): string {
  const done = `${number(counts.done)} of ${counted(counts.total, "node")} done.`;
  if (!end) return counts.total > 0 ? done : "";
  const left = secondsBetween(now, end);
  const when = left > 0 ? `in about ${running(left)}` : "any moment; it takes longer than the last runs did";
  return `${done} By the last runs, the end is to be expected at ${timeOfDay(end)} UTC, ${when}.`;
}

function Running({ now }: { now: number }) {
  const { live } = useRun();
  const nodes = useNodes();
  const history = useStore((state) => state.history);
  if (live.running.length === 0) return <p className="empty">No node runs at this moment.</p>;
  const rows = [...live.running].sort((a, b) => (a.since < b.since ? -1 : 1));
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <div className="scroller" tabIndex={0} role="region" aria-label="Nodes that run now">
      <table className="plain">
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col" className="optional">
              Kind
            </th>
            <th scope="col" className="number">
              Since
            </th>
            <th scope="col" className="number">
              For
            </th>
            <th scope="col" className="number optional">
              Usually
            </th>
            <th scope="col" className="optional">
              <span className="visually-hidden">Share of the usual time</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map(({ node, since }) => {
            const seconds = Math.max(secondsBetween(since, now), 0);
            const median = history?.nodes[node]?.median ?? null;
            const share = median ? Math.min(seconds / median, 1) : null;
            return (
              <tr key={node}>
                <th scope="row">
                  <NodeLink id={node} />
                </th>
                <td className="optional">{nodes.get(node)?.kind ?? ""}</td>
                <td className="number">{timeOfDay(since)}</td>
                <td className="number">{running(seconds)}</td>
                <td className="number optional">{median === null ? "" : duration(median)}</td>
                <td className="optional share">
                  {share !== null && (
                    <div className={median !== null && seconds > median * 1.5 ? "meter late" : "meter"}>
                      <div style={{ width: `${share * 100}%` }} />
                    </div>
                  )}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

const LATEST = 8;

function Latest({ title }: { title: string }) {
  const { record } = useRun();
  const lookOf = useLook();
  const latest = useMemo(
    () =>
      record.nodes
        .filter(
          (node) =>
            node.finished_at &&
            (node.meaning === "success" || node.meaning === "warning" || node.meaning === "failure"),
        )
        .sort((a, b) => ((a.finished_at ?? "") < (b.finished_at ?? "") ? 1 : -1))
        .slice(0, LATEST),
    [record.nodes],
  );
  if (latest.length === 0) return null;
  return (
    <section>
      <h2>{title}</h2>
      <ul className="rows">
        {latest.map((node) => (
          <li key={node.unique_id}>
            <span className="time">{timeOfDay(node.finished_at)}</span>
            <StateMark look={lookOf(node)}>{node.state}</StateMark>
            <NodeLink id={node.unique_id} />
            <span className="quiet number">{node.seconds == null ? "" : duration(node.seconds)}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Over() {
  const { record } = useRun();
  const slowest = useMemo(
    () =>
      [...record.nodes]
        .filter((node) => node.seconds != null)
        .sort((a, b) => (b.seconds ?? 0) - (a.seconds ?? 0))
        .slice(0, LATEST),
    [record.nodes],
  );
  const causes = record.causes.length;
  return (
    <>
      <p className="estimate">
        Nothing runs: the run is over{record.finished_at ? ` since ${clock(record.finished_at)}` : ""}.{" "}
        {causes > 0 && (
          <Button className="link" onPress={() => go({ view: "why" })}>
            Why it did not go well
          </Button>
        )}
      </p>
      {slowest.length > 0 && (
        <section>
          <h2>Took longest</h2>
          <ul className="rows">
            {slowest.map((node) => (
              <li key={node.unique_id}>
                <span className="time number">{duration(node.seconds ?? 0)}</span>
                <NodeLink id={node.unique_id} />
                <span className="quiet">{node.kind}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}
