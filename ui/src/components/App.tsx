/** The page: its head, its views as tabs, and the node that is open beside them. */
import { lazy, Suspense, useEffect, useState } from "react";
import { Button, Tab, TabList, TabPanel, Tabs } from "react-aria-components";
import { go, load, useStore } from "../data/store";
import { VIEWS, type View } from "../model/address";
import { causesOf } from "../model/causes";
import { number } from "../model/format";
import type { RecordAnswer } from "../types";
import { Head } from "./Head";
import { useMedia } from "./hooks";
import { NodePanel } from "./NodePanel";
import { NodeTable } from "./NodeTable";
import { Now } from "./Now";
import { Empty } from "./parts";
import { Timeline } from "./Timeline";
import { Why } from "./Why";

const Graph = lazy(() => import("./Graph"));

const TITLES: Record<View, string> = { now: "Now", why: "Why", timeline: "Timeline", graph: "Graph", table: "Table" };

const CONTENTS: Record<View, () => React.ReactNode> = {
  now: () => <Now />,
  why: () => <Why />,
  timeline: () => <Timeline />,
  graph: () => (
    <Suspense fallback={<Empty>The graph is being loaded.</Empty>}>
      <Graph />
    </Suspense>
  ),
  table: () => <NodeTable />,
};

/** Return the view that says most, where none was chosen. */
function viewFor(run: RecordAnswer): View {
  if (!run.live.is_over) return "now";
  return run.record.causes.length > 0 ? "why" : "timeline";
}

export function App() {
  const { error, isLoading, run, projects } = useStore((state) => state);
  if (!run) {
    return (
      <main className="message">
        {error ? (
          <>
            <h1>This run cannot be shown</h1>
            <p role="alert">{error}</p>
            <p>
              <Button className="button" onPress={() => void load()}>
                Try again
              </Button>
            </p>
          </>
        ) : (
          <>
            <h1>dbt run</h1>
            <p role="status">{isLoading ? "The run is being read." : noProject(projects?.run_id)}</p>
          </>
        )}
      </main>
    );
  }
  return (
    <div className="app">
      <a className="skip-link" href="#content">
        Skip to the content
      </a>
      <Head />
      {error && (
        <p className="banner" role="alert">
          {error}{" "}
          <Button className="link" onPress={() => void load()}>
            Try again
          </Button>
        </p>
      )}
      <Body run={run} />
      <Announcer />
    </div>
  );
}

const noProject = (run: string | undefined) =>
  `${run ? `The run ${run}` : "This run"} has no dbt project of dbt_watch.`;

function Body({ run }: { run: RecordAnswer }) {
  const chosen = useStore((state) => state.address.view);
  const node = useStore((state) => state.address.node);
  const isNarrow = useMedia("(max-width: 60rem)");
  // What was shown first stays when the run ends, so that nothing moves under who reads it.
  const [first] = useState(() => viewFor(run));
  const view = chosen ?? first;
  const causes = causesOf(run).length;
  const isCovered = isNarrow && node !== null;
  return (
    <div className={node ? "body with-node" : "body"}>
      <main className="views" id="content" tabIndex={-1} inert={isCovered}>
        <Tabs selectedKey={view} onSelectionChange={(key) => go({ view: key as View })}>
          <TabList aria-label="Views of the run" className="tabs">
            {VIEWS.map((key) => (
              <Tab key={key} id={key} className="tab">
                {TITLES[key]}
                {key === "why" && causes > 0 && <span className="badge failure">{number(causes)}</span>}
              </Tab>
            ))}
          </TabList>
          {VIEWS.map((key) => (
            <TabPanel key={key} id={key} className={`panel panel-${key}`}>
              <h2 className="visually-hidden">{TITLES[key]}</h2>
              {CONTENTS[key]()}
            </TabPanel>
          ))}
        </Tabs>
      </main>
      {node && <NodePanel key={node} id={node} isModal={isNarrow} />}
    </div>
  );
}

const ANNOUNCED_EVERY = 15_000;

/** Tells screen readers how far the run is, seldom enough to be bearable. */
function Announcer() {
  const [text, setText] = useState("");
  const counts = useStore((state) => state.run?.live.counts);
  const isOver = useStore((state) => state.run?.live.is_over ?? true);
  const outcome = useStore((state) => state.run?.record.outcome);
  const [wasLive, setWasLive] = useState(false);
  const words = counts
    ? `${counts.done} of ${counts.total} nodes done${counts.failed ? `, ${counts.failed} failed` : ""}`
    : "";
  useEffect(() => {
    if (isOver) return;
    setWasLive(true);
    const timer = setTimeout(() => setText(words), ANNOUNCED_EVERY);
    return () => clearTimeout(timer);
  }, [isOver, words]);
  return (
    <p className="visually-hidden" role="status">
      {isOver ? (wasLive ? `The run is over: ${outcome}` : "") : text}
    </p>
  );
}
