/** Why: the nodes that failed by themselves, each with dbt's error, the SQL that was sent, and what was not built because of it. */
import { useMemo } from "react";
import { useStore } from "../data/store";
import { causesOf } from "../model/causes";
import { counted } from "../model/format";
import type { Cause } from "../types";
import { useLook, useNodes, useRun } from "./hooks";
import { AirflowLink, Code, Empty, NodeLink, NodeList, StateMark, Unfolding } from "./parts";
import { useNodeAnswer, useNodeFiles } from "./useNodeAnswer";

const SHOWN = 5;
/** So many causes show their SQL without being asked to. */
const WITH_SQL = 2;

export function Why() {
  const run = useRun();
  const causes = useMemo(() => causesOf(run), [run]);
  const warned = useMemo(
    () => run.record.nodes.filter((node) => node.meaning === "warning").map((node) => node.unique_id),
    [run.record.nodes],
  );
  const rest = causes.slice(SHOWN);
  return (
    <div className="why">
      {causes.length === 0 && (
        <Empty>{run.live.is_over ? "Nothing failed, and nothing was left out." : "Nothing has failed so far."}</Empty>
      )}
      {causes.slice(0, SHOWN).map((cause, index) => (
        <CauseBox key={cause.node ?? cause.title} cause={cause} withSql={index < WITH_SQL} />
      ))}
      {rest.length > 0 && (
        <Unfolding title={`and ${rest.length} more`} level={3}>
          {() => rest.map((cause) => <CauseBox key={cause.node ?? cause.title} cause={cause} withSql={false} />)}
        </Unfolding>
      )}
      {warned.length > 0 && (
        <section>
          <Unfolding title={`${counted(warned.length, "node")} warned`} level={3} open={causes.length === 0}>
            {() => <NodeList ids={warned} withState />}
          </Unfolding>
        </section>
      )}
      {run.record.notes.length > 0 && (
        <section>
          <h3>Not known</h3>
          <ul className="notes">
            {run.record.notes.map((note) => (
              <li key={note}>{note}</li>
            ))}
          </ul>
        </section>
      )}
    </div>
  );
}

function CauseBox({ cause, withSql }: { cause: Cause; withSql: boolean }) {
  const node = useNodes().get(cause.node ?? "");
  const lookOf = useLook();
  const task = useStore((state) => (cause.node ? state.run?.live.tasks?.[cause.node] : undefined));
  const { answer, error } = useNodeAnswer(cause.node ?? "", node, cause.node !== null);
  const message = cause.message ?? node?.message;
  const sent = answer?.sql_sent ?? node?.sql;
  const { answer: files } = useNodeFiles(cause.node ?? "", true, answer !== null && !sent);
  const sql = sent ?? files?.compiled_sql;
  const blocked = cause.blocked ?? [];
  const title = node?.name ?? cause.title;
  return (
    <article className="cause" aria-label={title}>
      <h3>
        {node ? (
          <>
            <NodeLink id={node.unique_id} /> <span className="quiet">{node.kind}</span>{" "}
            <StateMark look={lookOf(node)}>{node.state}</StateMark>
          </>
        ) : (
          cause.title
        )}
      </h3>
      {(node?.path || answer?.task_url) && (
        <p className="where">
          {node?.path && <code>{node.path}</code>}
          {answer?.task_url && (
            <AirflowLink href={answer.task_url}>{task ? `Task ${task.task_id}` : "Task in Airflow"}</AirflowLink>
          )}
        </p>
      )}
      {message && <Code text={message} label={`What dbt said of ${title}`} className="error" />}
      {error && <p className="quiet">{error}</p>}
      {sql && (
        <Unfolding title={sent ? "SQL that was sent" : "Compiled SQL"} open={withSql}>
          {() => <Code text={sql} label={`SQL of ${title}`} />}
        </Unfolding>
      )}
      {blocked.length > 0 && (
        <Unfolding
          title={`${counted(blocked.length, "node")} ${blocked.length === 1 ? "was" : "were"} not built${node ? " because of it" : ""}`}
        >
          {() => <NodeList ids={blocked} />}
        </Unfolding>
      )}
    </article>
  );
}
