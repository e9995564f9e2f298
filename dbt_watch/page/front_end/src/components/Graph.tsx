/** Graph: the lineage of the project, coloured by state. A canvas draws it; the keys and the list beside it say the same in words. */
import cytoscape from "cytoscape";
import { type KeyboardEvent, useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Button, Checkbox, Input, Label, SearchField } from "react-aria-components";
import { useStore } from "../data/store";
import { around, type Lineage, lineageOf } from "../model/graph";
import type { Place } from "../model/layered";
import type { LayoutAnswer, LayoutQuestion } from "../model/layout.worker";
import { LOOKS, type Look, SIGNS, WORDS } from "../model/looks";
import type { NodeRecord } from "../types";
import { LARGE, optionsFor, styleOf } from "./graphStyle";
import { openNode, useLook, useNodes, useRun } from "./hooks";
import { Empty, NodeList, StateMark } from "./parts";

/** Up to so many nodes, tests are shown from the start. */
const FEW = 60;
const CHARACTER = 6.9;
const LONGEST = 30;

/** So many nodes or lines come into the graph with each frame, so that thousands do not stop the page. */
const AT_ONCE = 250;
/** Around the whole graph, in pixels. */
const MARGIN = 24;

/** Names can be read from this zoom on. */
const READABLE = 0.7;

const nextFrame = () =>
  new Promise((resolve) => {
    if (document.hidden) setTimeout(resolve);
    else requestAnimationFrame(resolve);
  });

const labelOf = (node: NodeRecord, look: Look) => `${SIGNS[look]} ${node.name}`;
const widthOf = (node: NodeRecord) => Math.min(node.name.length + 2, LONGEST) * CHARACTER + 20;

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
  const shownPart = useRef<string | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const [graph, setGraph] = useState<cytoscape.Core | null>(null);
  const [isPlacing, setPlacing] = useState(true);
  // States change often and places do not: only another set of nodes is placed anew.
  const shape = useMemo(
    () => `${lineage.nodes.map((node) => node.unique_id).join("\n")}\n\n${lineage.edges.length}`,
    [lineage],
  );
  const current = useRef({ lineage, lookOf, part, onChoose });
  current.current = { lineage, lookOf, part, onChoose };

  const isLarge = lineage.nodes.length > LARGE;

  useEffect(() => {
    if (!box.current) return;
    const container = box.current;
    const core = cytoscape({ container, ...optionsFor(isLarge), style: styleOf(), elements: [] });
    core.on("tap", (event) =>
      current.current.onChoose(event.target === core ? null : event.target.isNode() ? event.target.id() : null),
    );
    core.on("dbltap", "node", (event) => openNode(event.target.id()));
    const restyle = () => core.style(styleOf());
    window.addEventListener("themechange", restyle);
    const observer = new ResizeObserver(() => core.resize());
    observer.observe(container);
    setGraph(core);
    return () => {
      observer.disconnect();
      window.removeEventListener("themechange", restyle);
      setGraph(null);
      shownPart.current = null;
      core.destroy();
    };
  }, [isLarge]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: `shape` stands for the lineage
  useEffect(() => {
    if (!graph) return;
    setPlacing(true);
    const worker = new Worker(new URL("../model/layout.worker.ts", import.meta.url), { type: "module" });
    const { nodes, edges } = current.current.lineage;
    let isWanted = true;
    worker.onmessage = async (event: MessageEvent<LayoutAnswer>) => {
      const places = new Map(event.data.places);
      const look = current.current.lookOf;
      const classes = nodes.length > LARGE ? "plain" : "";
      const elements: cytoscape.ElementDefinition[] = [
        ...nodes.map((node) => ({
          group: "nodes" as const,
          data: {
            id: node.unique_id,
            label: labelOf(node, look(node)),
            look: look(node),
            kind: node.kind,
            width: widthOf(node),
          },
          position: places.get(node.unique_id) ?? { x: 0, y: 0 },
          classes,
        })),
        ...edges.map((edge) => ({
          group: "edges" as const,
          data: { id: `${edge.from}\n${edge.to}`, source: edge.from, target: edge.to },
          classes,
        })),
      ];
      graph.elements().remove();
      if (shownPart.current !== current.current.part) {
        shownPart.current = current.current.part;
        const first =
          nodes.find((node) => look(node) === "failure") ?? nodes.find((node) => look(node) === "running") ?? nodes[0];
        fitTo(graph, [...places.values()], nodes.length > LARGE ? undefined : places.get(first?.unique_id ?? ""));
      }
      for (let at = 0; at < elements.length; at += AT_ONCE) {
        graph.batch(() => graph.add(elements.slice(at, at + AT_ONCE)));
        await nextFrame();
        if (!isWanted) return;
      }
      setPlacing(false);
    };
    const question: LayoutQuestion = {
      nodes: nodes.map((node) => ({ id: node.unique_id, width: widthOf(node) })),
      edges,
      number: 0,
    };
    worker.postMessage(question);
    return () => {
      isWanted = false;
      worker.terminate();
    };
  }, [graph, shape]);

  useEffect(() => {
    if (!graph || isPlacing) return;
    graph.batch(() => {
      for (const node of lineage.nodes) {
        const element = graph.getElementById(node.unique_id);
        const look = lookOf(node);
        if (element.nonempty() && element.data("look") !== look) element.data({ look, label: labelOf(node, look) });
      }
    });
  }, [graph, isPlacing, lineage, lookOf]);

  useEffect(() => {
    if (!graph || isPlacing) return;
    const element = chosen ? graph.getElementById(chosen) : graph.collection();
    graph.batch(() => {
      graph.elements(".dim, .chosen, .near").removeClass("dim chosen near");
      if (element.empty()) return;
      const near = element.closedNeighborhood();
      // In a large graph this would be thousands of changes for each step.
      if (!isLarge) graph.elements().not(near).addClass("dim");
      near.addClass("near");
      element.addClass("chosen");
    });
    if (element.nonempty()) show(graph, element);
  }, [graph, isPlacing, isLarge, chosen]);

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
        <Button className="button" aria-label="Zoom out" onPress={() => graph && zoomBy(graph, 1 / 1.4)}>
          −
        </Button>
        <Button className="button" aria-label="Zoom in" onPress={() => graph && zoomBy(graph, 1.4)}>
          +
        </Button>
        <Button className="button" aria-label="Fit the whole graph" onPress={() => graph?.fit(undefined, MARGIN)}>
          Fit
        </Button>
      </div>
    </div>
  );
}

/** Show all of these places, but nothing larger than it is; where names could not be read then, show what is around `centre` instead. */
function fitTo(graph: cytoscape.Core, places: readonly Place[], centre?: Place): void {
  const LONG = LONGEST * CHARACTER;
  const bounds = places.reduce(
    (all, { x, y }) => ({
      x1: Math.min(all.x1, x - LONG / 2),
      x2: Math.max(all.x2, x + LONG / 2),
      y1: Math.min(all.y1, y - 20),
      y2: Math.max(all.y2, y + 20),
    }),
    {
      x1: Number.POSITIVE_INFINITY,
      x2: Number.NEGATIVE_INFINITY,
      y1: Number.POSITIVE_INFINITY,
      y2: Number.NEGATIVE_INFINITY,
    },
  );
  if (places.length === 0) return;
  const [width, height] = [bounds.x2 - bounds.x1, bounds.y2 - bounds.y1];
  const zoom = Math.min((graph.width() - 2 * MARGIN) / width, (graph.height() - 2 * MARGIN) / height, 1);
  if (centre && zoom < READABLE) {
    graph.viewport({
      zoom: READABLE,
      pan: { x: graph.width() / 2 - READABLE * centre.x, y: graph.height() / 2 - READABLE * centre.y },
    });
    return;
  }
  graph.viewport({
    zoom,
    pan: {
      x: graph.width() / 2 - (zoom * (bounds.x1 + bounds.x2)) / 2,
      y: graph.height() / 2 - (zoom * (bounds.y1 + bounds.y2)) / 2,
    },
  });
}

function zoomBy(graph: cytoscape.Core, factor: number): void {
  graph.zoom({ level: graph.zoom() * factor, renderedPosition: { x: graph.width() / 2, y: graph.height() / 2 } });
}

/** Bring a node into sight, large enough to be read. */
function show(graph: cytoscape.Core, element: cytoscape.CollectionReturnValue): void {
  if (graph.zoom() < READABLE) graph.zoom({ level: READABLE, position: element.position() });
  const { x1, x2, y1, y2 } = element.renderedBoundingBox();
  if (x1 < 0 || y1 < 0 || x2 > graph.width() || y2 > graph.height()) graph.center(element);
}

/** Return what the arrow keys do: along the lines, or to the next node of the same column. */
function useKeys(
  graph: cytoscape.Core | null,
  lineage: Lineage,
  chosen: string | null,
  onChoose: (id: string | null) => void,
) {
  return useCallback(
    (event: KeyboardEvent) => {
      if (!graph || lineage.nodes.length === 0) return;
      const place = (id: string) => graph.getElementById(id).position();
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
