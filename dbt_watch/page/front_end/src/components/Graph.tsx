/** Graph: the lineage of the project, coloured by state. A canvas draws it; the keys and the list beside it say the same in words. */
import { type KeyboardEvent, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Button, Checkbox, Input, Label, SearchField } from "react-aria-components";
import { useStore } from "../data/store";
import { around, type Lineage, lineageOf } from "../model/graph";
import type { LayoutAnswer, LayoutQuestion } from "../model/layout.worker";
import { LOOKS, type Look, WORDS } from "../model/looks";
import type { NodeRecord } from "../types";
import { openNode, useLook, useNodes, useRun } from "./hooks";
import { type DrawnNode, LARGE, LineageView, type Viewport, widthOf } from "./lineageView";
import { Empty, NodeList, StateMark } from "./parts";

/** Up to so many nodes, tests are shown from the start. */
const FEW = 60;

export default function Graph() {
  const { record } = useRun();
  const lookOf = useLook();
  const [withTests, setWithTests] = useState(record.nodes.length <= FEW);
  const [about, setAbout] = useState<ReadonlySet<string> | null>(null);
  const open = useStore((state) => state.address.node);
  const [chosen, setChosen] = useState<string | null>(open);
  useEffect(() => {
    if (open) setChosen(open);
  }, [open]);
  const lineage = useMemo(
    () => lineageOf(record.nodes, lookOf, withTests, about),
    [record.nodes, lookOf, withTests, about],
  );
  const hasEdges = lineage.edges.length > 0;
  const search = useSearch(lineage, setChosen);
  return (
    <div className="graph-view">
      <div className="tools">
        <SearchField className="search" value={search.text} onChange={search.set} onSubmit={search.next}>
          <Label className="visually-hidden">Search a node; Enter goes to the next one</Label>
          <Input placeholder="Search" />
          <Button className="clear" aria-label="Clear the search">
            ✕
          </Button>
        </SearchField>
        <span className="quiet" role="status">
          {search.words}
        </span>
        <Checkbox className="checkbox" isSelected={withTests} onChange={setWithTests}>
          <span className="box" aria-hidden="true">
            {withTests ? "✓" : ""}
          </span>
          All tests
        </Checkbox>
        {about && (
          <Button className="button" onPress={() => setAbout(null)}>
            Whole project
          </Button>
        )}
      </div>
      {!hasEdges && <Empty>What depends on what is not known, so the nodes stand side by side.</Empty>}
      <ChosenStatus id={chosen} lineage={lineage} />
      <div className="graph-body">
        <Canvas
          lineage={lineage}
          lookOf={lookOf}
          part={`${withTests} ${about ? [...about][0] : ""}`}
          chosen={chosen}
          onChoose={setChosen}
        />
        {chosen && chosen !== open && (
          <Chosen
            id={chosen}
            lineage={lineage}
            onAbout={() => setAbout(around(lineageOf(record.nodes, lookOf, withTests), chosen))}
            onClose={() => setChosen(null)}
          />
        )}
      </div>
      <ul className="legend small" aria-label="What the signs mean">
        {LOOKS.filter((look) => lineage.nodes.some((node) => lookOf(node) === look)).map((look) => (
          <li key={look}>
            <StateMark look={look}>{WORDS[look]}</StateMark>
          </li>
        ))}
        <li className="quiet">Drag moves, the wheel zooms; arrow keys go along the lines, Enter opens a node.</li>
      </ul>
    </div>
  );
}

function useSearch(lineage: Lineage, choose: (id: string) => void) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const found = useMemo(() => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length === 0) return [];
    return lineage.nodes
      .filter((node) => words.every((word) => node.unique_id.toLowerCase().includes(word)))
      .map((node) => node.unique_id);
  }, [lineage.nodes, text]);
  const show = (index: number) => {
    setAt(index);
    const id = found[index];
    if (id) choose(id);
  };
  return {
    text,
    set: (value: string) => {
      setText(value);
      setAt(-1);
    },
    next: () => found.length > 0 && show((at + 1) % found.length),
    words: !text
      ? ""
      : found.length === 0
        ? "none"
        : at >= 0
          ? `${at + 1} of ${found.length}`
          : `${found.length} found, Enter shows`,
  };
}

interface CanvasProps {
  lineage: Lineage;
  lookOf: (node: NodeRecord) => Look;
  /** Names the part of the project that is shown: another part is shown whole, else what is in sight stays. */
  part: string;
  chosen: string | null;
  onChoose: (id: string | null) => void;
}

function Canvas({ lineage, lookOf, part, chosen, onChoose }: CanvasProps) {
  const shown = useRef<{ part: string; viewport: Viewport } | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const [graph, setGraph] = useState<LineageView | null>(null);
  const isPlacing = graph === null;
  // States change often and places do not: only another set of nodes is placed anew.
  const shape = useMemo(
    () => `${lineage.nodes.map((node) => node.unique_id).join("\n")}\n\n${lineage.edges.length}`,
    [lineage],
  );
  const current = useRef({ lineage, lookOf, part, onChoose });
  current.current = { lineage, lookOf, part, onChoose };

  // biome-ignore lint/correctness/useExhaustiveDependencies: `shape` stands for the lineage
  useEffect(() => {
    const container = box.current;
    if (!container) return;
    const worker = new Worker(new URL("../model/layout.worker.ts", import.meta.url), { type: "module" });
    const { nodes, edges } = current.current.lineage;
    const view = new LineageView(container, nodes.length > LARGE, {
      onChoose: (id) => current.current.onChoose(id),
      onOpen: openNode,
    });
    let shownPart: string | null = null;
    worker.onmessage = async (event: MessageEvent<LayoutAnswer>) => {
      const { lookOf: look, part: wanted } = current.current;
      if (!(await view.add(nodes.map(drawnOf(look)), edges, new Map(event.data.places)))) return;
      if (shown.current?.part === wanted) view.viewport = shown.current.viewport;
      else {
        const first =
          nodes.find((node) => look(node) === "failure") ?? nodes.find((node) => look(node) === "running") ?? nodes[0];
        view.fit(nodes.length > LARGE ? undefined : first?.unique_id);
      }
      shownPart = wanted;
      setGraph(view);
    };
    const question: LayoutQuestion = {
      nodes: nodes.map((node) => ({ id: node.unique_id, width: widthOf(node.name) })),
      edges,
      number: 0,
    };
    worker.postMessage(question);
    return () => {
      worker.terminate();
      if (shownPart !== null) shown.current = { part: shownPart, viewport: view.viewport };
      setGraph(null);
      view.destroy();
    };
  }, [shape]);

  useEffect(() => {
    graph?.setLooks(lineage.nodes.map(drawnOf(lookOf)));
  }, [graph, lineage, lookOf]);

  useEffect(() => {
    if (!graph) return;
    graph.choose(chosen);
    if (chosen) graph.show(chosen);
  }, [graph, chosen]);

  const onKey = useKeys(graph, lineage, chosen, onChoose);
  const count = lineage.nodes.length;
  return (
    <div className="graph-frame">
      <div
        ref={box}
        className="graph __________cytoscape_container"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it takes the arrow keys
        tabIndex={0}
        role="application"
        aria-label={`Lineage of ${count} nodes. Left and right go to what a node depends on and what needs it, up and down to its neighbours, Enter opens it.`}
        aria-busy={isPlacing}
        onKeyDown={onKey}
      />
      <div className="graph-zoom" role="group" aria-label="Zoom">
        <Button className="button" aria-label="Zoom out" onPress={() => graph?.zoomBy(1 / 1.4)}>
          −
        </Button>
        <Button className="button" aria-label="Zoom in" onPress={() => graph?.zoomBy(1.4)}>
          +
        </Button>
        <Button className="button" aria-label="Fit the whole graph" onPress={() => graph?.fit()}>
          Fit
        </Button>
      </div>
    </div>
  );
}

const drawnOf =
  (lookOf: (node: NodeRecord) => Look) =>
  (node: NodeRecord): DrawnNode => ({
    id: node.unique_id,
    name: node.name,
    kind: node.kind,
    look: lookOf(node),
  });

/** Return what the arrow keys do: along the lines, or to the next node of the same column. */
function useKeys(
  graph: LineageView | null,
  lineage: Lineage,
  chosen: string | null,
  onChoose: (id: string | null) => void,
) {
  return useCallback(
    (event: KeyboardEvent) => {
      if (!graph || lineage.nodes.length === 0) return;
      const place = (id: string) => graph.place(id);
      const next = (): string | null | undefined => {
        if (!chosen) return lineage.nodes[0]?.unique_id;
        const from = place(chosen);
        const nearest = (ids: readonly string[]) =>
          [...ids].sort((a, b) => Math.abs(place(a).y - from.y) - Math.abs(place(b).y - from.y))[0] ?? null;
        if (event.key === "ArrowLeft") return nearest(lineage.parents.get(chosen) ?? []);
        if (event.key === "ArrowRight") return nearest(lineage.children.get(chosen) ?? []);
        const isUp = event.key === "ArrowUp";
        const column = lineage.nodes
          .map((node) => node.unique_id)
          .filter(
            (id) =>
              id !== chosen &&
              Math.abs(place(id).x - from.x) < 160 &&
              (isUp ? place(id).y < from.y : place(id).y > from.y),
          );
        return nearest(column);
      };
      if (event.key.startsWith("Arrow")) {
        event.preventDefault();
        const to = next();
        if (to) onChoose(to);
      } else if (event.key === "Enter" && chosen) {
        openNode(chosen);
      } else if (event.key === "Escape" && chosen) {
        event.preventDefault();
        onChoose(null);
      }
    },
    [graph, lineage, chosen, onChoose],
  );
}

/** Says which node is chosen; it is there before one is, so that screen readers take notice. */
function ChosenStatus({ id, lineage }: { id: string | null; lineage: Lineage }) {
  const node = useNodes().get(id ?? "");
  const lookOf = useLook();
  const count = (others: Map<string, string[]>) => others.get(id ?? "")?.length ?? 0;
  return (
    <p className="visually-hidden" role="status">
      {node &&
        `${node.name}, ${node.kind}, ${WORDS[lookOf(node)]}; depends on ${count(lineage.parents)}, needed by ${count(lineage.children)}`}
    </p>
  );
}

interface ChosenProps {
  id: string;
  lineage: Lineage;
  onAbout: () => void;
  onClose: () => void;
}

function Chosen({ id, lineage, onAbout, onClose }: ChosenProps) {
  const node = useNodes().get(id);
  const lookOf = useLook();
  if (!node) return null;
  const parents = lineage.parents.get(id) ?? [];
  const children = lineage.children.get(id) ?? [];
  const look = lookOf(node);
  return (
    <aside className="chosen" aria-label="The chosen node">
      <h3>{node.name}</h3>
      <p>
        <StateMark look={look}>{WORDS[look]}</StateMark> <span className="quiet">{node.kind}</span>
      </p>
      <p className="group">
        <Button className="button" onPress={() => openNode(id)}>
          Open
        </Button>
        <Button className="button" onPress={onAbout}>
          Only its lineage
        </Button>
        <Button className="button" aria-label="Choose none" onPress={onClose}>
          ✕
        </Button>
      </p>
      {parents.length > 0 && (
        <>
          <h4>Depends on</h4>
          <NodeList ids={parents} />
        </>
      )}
      {children.length > 0 && (
        <>
          <h4>Needed by</h4>
          <NodeList ids={children} />
        </>
      )}
    </aside>
  );
}
