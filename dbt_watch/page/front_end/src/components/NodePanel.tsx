/** Node: all that is known of one node, beside the view that it was opened from. */
import { type ReactNode, useEffect, useMemo, useRef } from "react";
import { Button } from "react-aria-components";
import { go, useStore } from "../data/store";
import { causesOf } from "../model/causes";
import { change, clock, counted, duration, number, timeOfDay } from "../model/format";
import { commandsOf, triesOf } from "../model/lanes";
import { type Look, wordOf } from "../model/looks";
import type { Batch, Column, LogLine, NodeAnswer, NodeRecord } from "../types";
import { DurationChart } from "./DurationChart";
import { useLook, useNodes, useRun } from "./hooks";
import { AirflowLink, Code, NodeList, StateMark, Unfolding } from "./parts";
import { type Asked, useNodeAnswer, useNodeFiles } from "./useNodeAnswer";

/** Who had the focus when the panel opened, to have it again. */
let opener: HTMLElement | null = null;

export function NodePanel({ id, isModal }: { id: string; isModal: boolean }) {
  const node = useNodes().get(id);
  const lookOf = useLook();
  const asked = useNodeAnswer(id, node, node !== undefined);
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    const before = document.activeElement;
    if (before instanceof HTMLElement && !before.closest(".node-panel") && before !== document.body) opener = before;
    heading.current?.focus();
    return () => {
      requestAnimationFrame(() => {
        if (!document.querySelector(".node-panel") && opener?.isConnected) opener.focus();
      });
    };
  }, []);
  const close = () => go({ node: null });
  const title = node?.name ?? id;
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: Escape closes it wherever the focus is in it
    // biome-ignore lint/a11y/useAriaPropsSupportedByRole: it is modal only as a dialog
    <div
      className="node-panel"
      role={isModal ? "dialog" : "complementary"}
      aria-modal={isModal || undefined}
      aria-label={`Node ${title}`}
      onKeyDown={(event) => {
        if (event.key === "Escape" && !event.defaultPrevented) close();
      }}
    >
      <div className="node-top">
        <h2 ref={heading} tabIndex={-1}>
          {title}
        </h2>
        <Button className="button" onPress={close}>
          Close
        </Button>
      </div>
      {node ? <Content node={node} look={lookOf(node)} asked={asked} /> : <p>This run does not know the node {id}.</p>}
    </div>
  );
}

function Content({ node, look, asked }: { node: NodeRecord; look: Look; asked: Asked }) {
  const run = useRun();
  const { answer, error } = asked;
  const causes = useMemo(() => causesOf(run), [run]);
  const tries = useMemo(() => triesOf(commandsOf(run), node.unique_id), [run, node.unique_id]);
  const children = useMemo(
    () =>
      run.record.nodes
        .filter((other) => other.depends_on?.includes(node.unique_id) && !isTest(other))
        .map((other) => other.unique_id),
    [run.record.nodes, node.unique_id],
  );
  const blocked = causes.find((cause) => cause.node === node.unique_id)?.blocked ?? [];
  const failed = look === "failure";
  const sent = answer?.sql_sent ?? node.sql;
  const { answer: files } = useNodeFiles(node.unique_id, run.live.is_over);
  const compiled = files?.compiled_sql;
  const columns = files?.columns ?? node.columns ?? [];
  return (
    <>
      <p className="where">
        <code>{node.unique_id}</code>
        <AirflowLink href={answer?.task_url}>Task in Airflow</AirflowLink>
      </p>
      <p className="where">
        <StateMark look={look}>{wordOf(node, look)}</StateMark>
        <span>
          {[node.kind, node.materialized].filter((word, at, all) => word && all.indexOf(word) === at).join(", ")}
        </span>
      </p>
      {node.message && (
        <Section title={failed ? "Error" : "Message"}>
          <Code text={node.message} label={failed ? "Error" : "Message"} className={failed ? "error" : ""} />
        </Section>
      )}
      <Facts node={node} look={look} />
      {node.because && node.because.length > 0 && (
        <Section title="Not built because of">
          <NodeList ids={node.because} withState />
        </Section>
      )}
      {blocked.length > 0 && (
        <Section title={`${counted(blocked.length, "node")} not built because of it`}>
          <NodeList ids={blocked} />
        </Section>
      )}
      {error && (
        <p className="banner" role="alert">
          {error}
        </p>
      )}
      {sent && (
        <Unfolding title="SQL that was sent" level={3} open={failed}>
          {() => <Code text={sent} label="SQL that was sent" />}
        </Unfolding>
      )}
      {compiled && compiled !== sent && (
        <Unfolding title={`Compiled SQL, from ${files.compiled_from}`} level={3} open={failed && !sent}>
          {() => <Code text={compiled} label="Compiled SQL" />}
        </Unfolding>
      )}
      {files?.compiled_missing && <p className="hint">{files.compiled_missing}</p>}
      {answer && answer.log.length > 0 && (
        <Unfolding title={`Log, ${counted(answer.log.length, "line")}`} level={3} open={failed}>
          {() => <Log lines={answer.log} />}
        </Unfolding>
      )}
      <DurationChart node={node} />
      {node.description && (
        <Section title="Description">
          <p className="description">{node.description}</p>
        </Section>
      )}
      {node.tests && node.tests.length > 0 && (
        <Section title="Tests">
          <NodeList ids={node.tests} withState />
        </Section>
      )}
      {columns.length > 0 && (
        <Section title={`Columns${files?.columns_from ? `, from ${files.columns_from}` : ""}`}>
          <ColumnTable columns={columns} />
        </Section>
      )}
      {node.depends_on && node.depends_on.length > 0 && (
        <Section title="Depends on">
          <NodeList ids={node.depends_on} withState />
        </Section>
      )}
      {children.length > 0 && (
        <Section title="Used by">
          <NodeList ids={children} withState />
        </Section>
      )}
      {node.batches && node.batches.length > 0 && (
        <Batches batches={node.batches} of={node.batch_count ?? node.batches.length} />
      )}
      <Tries tries={tries} answer={answer} />
    </>
  );
}

const isTest = (node: NodeRecord) => node.kind === "test" || node.kind === "unit_test";

function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section>
      <h3>{title}</h3>
      {children}
    </section>
  );
}

/** Whether a node's time differs from the median by what can be seen. */
const isNotable = (node: NodeRecord, median: number) => node.seconds != null && Math.abs(node.seconds - median) >= 0.01;

function Facts({ node, look }: { node: NodeRecord; look: Look }) {
  const history = useStore((state) => state.history);
  const attempts = useRun().live.attempt;
  const median = history?.nodes[node.unique_id]?.median ?? null;
  const facts: [string, ReactNode][] = [
    ["Why", look === "waiting" ? null : node.not_run],
    ["File", node.path && <code key="file">{node.path}</code>],
    ["Relation", node.relation && <code key="relation">{node.relation}</code>],
    ["Took", node.seconds == null ? null : duration(node.seconds)],
    [
      "Median",
      median === null
        ? null
        : `${duration(median)}${isNotable(node, median) ? `, now ${change(median, node.seconds ?? 0)}` : ""}`,
    ],
    ["Began", clock(node.started_at)],
    ["Ended", clock(node.finished_at)],
    ["Rows", node.rows == null ? null : number(node.rows)],
    ["Failures", node.failures == null ? null : number(node.failures)],
    ["Last row loaded", node.age == null ? null : `${duration(node.age)} before`],
    ["Thread", node.thread],
    ["Attempt", attempts > 1 && node.started_at ? `${node.attempt ?? 1} of ${attempts}` : null],
  ];
  return (
    <dl className="facts-list">
      {facts
        .filter(([, value]) => value)
        .map(([title, value]) => (
          <div key={title}>
            <dt>{title}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

function Log({ lines }: { lines: readonly LogLine[] }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <pre className="code log" tabIndex={0} role="region" aria-label="Log">
      {lines.map((line, index) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: lines have nothing else, and stay in place
        <span key={index} className={`level-${line.level.toLowerCase()}`}>
          {line.at ? `${timeOfDay(line.at)} ` : ""}
          {line.level && line.level.toLowerCase() !== "info" ? `${line.level.toUpperCase()} ` : ""}
          {line.text}
          {"\n"}
        </span>
      ))}
    </pre>
  );
}

function ColumnTable({ columns }: { columns: readonly Column[] }) {
  const hasTypes = columns.some((column) => column.type);
  return (
    <table className="plain">
      <thead>
        <tr>
          <th scope="col">Name</th>
          {hasTypes && <th scope="col">Type</th>}
          <th scope="col">Description</th>
        </tr>
      </thead>
      <tbody>
        {columns.map((column) => (
          <tr key={column.name}>
            <th scope="row">
              <code>{column.name}</code>
            </th>
            {hasTypes && <td>{column.type ?? ""}</td>}
            <td>{column.description ?? ""}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Batches({ batches, of }: { batches: readonly Batch[]; of: number }) {
  return (
    <Section title={`Batches, ${batches.length} of ${of}`}>
      <ol className="path">
        {batches.map((batch) => (
          <li key={batch.index} value={batch.index}>
            {batch.status}
            {batch.execution_time == null ? "" : `, ${duration(batch.execution_time)}`}
          </li>
        ))}
      </ol>
    </Section>
  );
}

function Tries({ tries, answer }: { tries: ReturnType<typeof triesOf>; answer: NodeAnswer | null }) {
  const others = (answer?.attempts ?? []).filter((attempt) => attempt.state);
  if (tries.length > 1) {
    return (
      <Section title="Tries">
        <ul className="rows">
          {tries.map(({ label, bar }) => (
            <li key={`${label} ${bar.begin}`}>
              <StateMark look={bar.meaning}>{bar.state}</StateMark> {label}, {duration(bar.end - bar.begin)}
            </li>
          ))}
        </ul>
      </Section>
    );
  }
  if (others.length < 2) return null;
  return (
    <Section title="Tries">
      <ul className="rows">
        {others.map((attempt, index) => (
          <li key={`${attempt.attempt ?? index} ${attempt.started_at ?? ""}`}>
            <StateMark look={attempt.meaning ?? "open"}>{attempt.state}</StateMark> attempt{" "}
            {attempt.attempt ?? index + 1}
            {attempt.seconds == null ? "" : `, ${duration(attempt.seconds)}`}
          </li>
        ))}
      </ul>
    </Section>
  );
}
