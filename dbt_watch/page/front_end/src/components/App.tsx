/** The page: its head, its views as tabs, and the node that is open beside them. */
import { lazy, Suspense, useEffect, useRef, useState } from "react";
import { Button, Tab, TabList, TabPanel, Tabs } from "react-aria-components";
import { go, load, useStore } from "../data/store";
import { VIEWS, type View } from "../model/address";
import { causesOf } from "../model/causes";
import { counted, number } from "../model/format";
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
  const { error, isLoading, run, projects, address } = useStore((state) => state);
  const isNarrow = useMedia("(max-width: 60rem)");
  const isCovered = isNarrow && address.node !== null;
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
      <div className="upper" inert={isCovered}>
        <a className="skip-link" href="#content">
          Skip to the content
        </a>
        <Head />
      </div>
      {error && (
        <p className="banner" role="alert">
          {error}{" "}
          <Button className="link" onPress={() => void load()}>
            Try again
          </Button>
        </p>
      )}
      <Body run={run} isNarrow={isNarrow} />
      <Announcer />
    </div>
  );
}

const noProject = (run: string | undefined) =>
  `${run ? `The run ${run}` : "This run"} has no dbt project of dbt_watch.`;

function Body({ run, isNarrow }: { run: RecordAnswer; isNarrow: boolean }) {
  const chosen = useStore((state) => state.address.view);
  const node = useStore((state) => state.address.node);
  // What was shown first stays when the run ends, so that nothing moves under who reads it.
  const [first] = useState(() => viewFor(run));
  const view = chosen ?? first;
  const causes = causesOf(run).length;
  return (
    <div className={node ? "body with-node" : "body"}>
      <main className="views" id="content" tabIndex={-1} inert={isNarrow && node !== null}>
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
  const [wasLive, setWasLive] = useState(false);
  const counts = useStore((state) => state.run?.live.counts);
  const isOver = useStore((state) => state.run?.live.is_over ?? true);
  const outcome = useStore((state) => state.run?.record.outcome);
  const words = useRef("");
  words.current = counts
    ? `${number(counts.done)} of ${counted(counts.total, "node")} done${counts.failed ? `, ${number(counts.failed)} failed` : ""}`
    : "";
  useEffect(() => {
    if (isOver) return;
    setWasLive(true);
    const timer = setInterval(() => setText(words.current), ANNOUNCED_EVERY);
    return () => clearInterval(timer);
  }, [isOver]);
  return (
    <p className="visually-hidden" role="status">
      {isOver ? (wasLive ? `The run is over: ${outcome}` : "") : text}
    </p>
  );
}
