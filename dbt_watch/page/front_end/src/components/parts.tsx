/** The small parts that all views are made of. */
import { type ReactNode, useState } from "react";
import { Button, Disclosure, DisclosurePanel, Heading } from "react-aria-components";
import { follow, safeHref } from "../host";
import { classOf, type Look, SIGNS } from "../model/looks";
import { openNode, useLook, useNodes } from "./hooks";

/** A state: a sign, and a word. */
export function StateMark({ look, children }: { look: Look; children: ReactNode }) {
  return (
    <span className={`state ${classOf(look)}`}>
      <span className="sign" aria-hidden="true">
        {SIGNS[look]}
      </span>
      {children}
    </span>
  );
}

/** A state as the sign alone, for places where the word stands elsewhere. */
export function StateSign({ look }: { look: Look }) {
  return (
    <span className={`state ${classOf(look)}`} aria-hidden="true">
      <span className="sign">{SIGNS[look]}</span>
    </span>
  );
}

/** A node's name, which opens it where the run knows it. */
export function NodeLink({ id, className = "link" }: { id: string; className?: string }) {
  const node = useNodes().get(id);
  if (!node) return <span className="quiet">{id}</span>;
  // A plain button: there may be thousands.
  return (
    <button type="button" className={className} onClick={() => openNode(id)}>
      {node.name}
    </button>
  );
}

/** Of a longer list so many are shown at first. */
const LISTED = 200;

/** Names of nodes with their states, as a list. */
export function NodeList({ ids, withState = false }: { ids: readonly string[]; withState?: boolean }) {
  const nodes = useNodes();
  const lookOf = useLook();
  const [isWhole, setWhole] = useState(ids.length <= LISTED);
  return (
    <>
      <ul className="node-list">
        {(isWhole ? ids : ids.slice(0, LISTED)).map((id) => {
          const node = nodes.get(id);
          return (
            <li key={id}>
              {node && <StateSign look={lookOf(node)} />}
              <span>
                <NodeLink id={id} />
                {withState && <span className="quiet"> {node ? node.state : "not in this run"}</span>}
              </span>
            </li>
          );
        })}
      </ul>
      {!isWhole && (
        <Button className="button" onPress={() => setWhole(true)}>
          Show {ids.length - LISTED} more
        </Button>
      )}
    </>
  );
}

/** Something that unfolds; what is in it is made only then. */
export function Unfolding({
  title,
  level = 4,
  open,
  children,
}: {
  title: ReactNode;
  level?: number;
  open?: boolean;
  children: () => ReactNode;
}) {
  return (
    <Disclosure className="unfolding" defaultExpanded={open ?? false}>
      {({ isExpanded }) => (
        <>
          <Heading level={level}>
            <Button slot="trigger" className="unfold">
              <span className="arrow" aria-hidden="true">
                {isExpanded ? "▾" : "▸"}
              </span>
              {title}
            </Button>
          </Heading>
          <DisclosurePanel>{isExpanded ? children() : null}</DisclosurePanel>
        </>
      )}
    </Disclosure>
  );
}

/** A text as it was sent or written. Longer ones scroll, also by keyboard. */
export function Code({ text, label, className = "" }: { text: string; label: string; className?: string }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reachable by keyboard
    <pre className={`code ${className}`} tabIndex={0} role="region" aria-label={label}>
      {text}
    </pre>
  );
}

/** A link into Airflow's own UI. */
export function AirflowLink({
  href,
  children,
  className = "link",
}: {
  href: string | null | undefined;
  children: ReactNode;
  className?: string;
}) {
  const target = safeHref(href);
  if (!target) return null;
  return (
    <a
      className={className}
      href={target}
      target="_top"
      rel="noreferrer"
      onClick={(event) => {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        follow(target);
      }}
    >
      {children}
    </a>
  );
}

export function Empty({ children }: { children: ReactNode }) {
  return <p className="empty">{children}</p>;
}
