/** The head of the page: which run, how it went, and the choice of another. */
import { useEffect, useMemo } from "react";
import { goToRun, useStore } from "../data/store";
import { isFramed } from "../host";
import { clock, counted, duration, number, running, secondsBetween } from "../model/format";
import { classOf, isEphemeral, LOOKS, type Look, WORDS } from "../model/looks";
import type { RecordAnswer, Run } from "../types";
import { useLook, useRun, useServerNow } from "./hooks";
import { AirflowLink, StateMark } from "./parts";

const CHIPS: Record<RecordAnswer["record"]["outcome"], Look> = {
  success: "success",
  failure: "failure",
  error: "failure",
  unfinished: "open",
};

export function Head() {
  const run = useRun();
  const project = useStore((state) => state.project);
  const title = run.record.project || project?.label || "dbt";
  const [look, word] = chipOf(run);
  useEffect(() => {
    document.title = `${title}: ${word}`;
  }, [title, word]);
  return (
    <header className="head">
      <div className="head-top">
        <h1>
          {title} <span className={`chip ${classOf(look)}`}>{word}</span>
        </h1>
        <Choices />
      </div>
      <Facts />
      <Totals />
    </header>
  );
}

function chipOf({ record, live }: RecordAnswer): [Look, string] {
  if (!live.is_over) return live.counts.failed > 0 ? ["failure", "failing"] : ["running", "running"];
  return [CHIPS[record.outcome] ?? "open", record.outcome];
}

function Facts() {
  const { record, live } = useRun();
  // The link to this page follows what it shows.
  useStore((state) => state.address);
  const isLoading = useStore((state) => state.isLoading);
  const now = useServerNow();
  const facts: string[] = [];
  if (record.dbt_version) facts.push(`dbt ${record.dbt_version}`);
  if (record.started_at) facts.push(`began ${clock(record.started_at)}`);
  if (record.started_at && !live.is_over) facts.push(`for ${running(secondsBetween(record.started_at, now))}`);
  if (record.started_at && record.finished_at && live.is_over) {
    facts.push(`took ${duration(secondsBetween(record.started_at, record.finished_at))}`);
  }
  if (live.attempt > 1) facts.push(counted(live.attempt, "attempt"));
  return (
    <p className="facts">
      {facts.join(" · ")}
      {isLoading ? <span role="status">is being read anew</span> : <LinkState />}
      {isFramed() && (
        <AirflowLink href={location.href} className="link push">
          Open this page by itself
        </AirflowLink>
      )}
    </p>
  );
}

function LinkState() {
  const link = useStore((state) => state.link);
  const isOver = useStore((state) => state.run?.live.is_over ?? true);
  if (isOver) return null;
  const words = {
    events: "live",
    polling: "asks every 2 s",
    waiting: "not connected, tries again",
    off: "not connected",
  } as const;
  return <span className={`link-state ${link}`}>{words[link]}</span>;
}

function Totals() {
  const { record, live } = useRun();
  const lookOf = useLook();
  const counts = useMemo(() => {
    const found = new Map<Look, number>();
    const known = record.nodes.filter((node) => !isEphemeral(node));
    for (const node of known) found.set(lookOf(node), (found.get(lookOf(node)) ?? 0) + 1);
    const unknown = live.is_over ? 0 : Math.max(live.counts.total - known.length, 0);
    if (unknown > 0) found.set("waiting", (found.get("waiting") ?? 0) + unknown);
    return LOOKS.flatMap((look) => ((found.get(look) ?? 0) > 0 ? [[look, found.get(look) ?? 0] as const] : []));
  }, [record.nodes, lookOf, live.is_over, live.counts.total]);
  return (
    <>
      <div className="totals" aria-hidden="true">
        {counts.map(([look, count]) => (
          <span key={look} className={classOf(look)} style={{ flexGrow: count }} />
        ))}
      </div>
      <ul className="legend" aria-label="Nodes by state">
        {counts.map(([look, count]) => (
          <li key={look}>
            <StateMark look={look}>
              {number(count)} {WORDS[look]}
            </StateMark>
          </li>
        ))}
      </ul>
    </>
  );
}

const runTitle = (run: Run) =>
  [run.started_at ? clock(run.started_at).replace(/:\d\d UTC$/, "") : run.run_id, run.state].join(" · ");

function Choices() {
  const place = useStore((state) => state.place);
  const runs = useStore((state) => state.runs);
  const projects = useStore((state) => state.projects);
  const entries = projects?.projects ?? [];
  const known = runs.some((run) => run.run_id === place?.run_id);
  if (!place) return null;
  return (
    <div className="choices">
      {entries.length > 1 && (
        <label>
          <span>Project</span>
          <select
            value={`${place.map_index} ${place.project}`}
            onChange={(event) => {
              const [mapIndex, ...rest] = event.target.value.split(" ");
              goToRun({ project: rest.join(" "), mapIndex: mapIndex ?? "" });
            }}
          >
            {entries.map((entry) => (
              <option key={`${entry.map_index} ${entry.group_id}`} value={`${entry.map_index} ${entry.group_id}`}>
                {entry.label || entry.group_id}
              </option>
            ))}
          </select>
        </label>
      )}
      <label>
        <span>Run</span>
        <select value={place.run_id} onChange={(event) => goToRun({ runId: event.target.value })}>
          {!known && <option value={place.run_id}>{place.run_id}</option>}
          {runs.map((run) => (
            <option key={run.run_id} value={run.run_id}>
              {runTitle(run)}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}
