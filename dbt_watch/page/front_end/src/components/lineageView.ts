/**
 * The lineage as Cytoscape.js draws it. `Graph` makes one for each set of nodes; it knows places and looks, and no React.
 *
 * A large graph comes in slices, so that the page answers meanwhile, and while it is moved, its picture of before is.
 */
import cytoscape from "cytoscape";
import type { Place } from "../model/layered";
import { LOOKS, type Look, SIGNS } from "../model/looks";

export interface DrawnNode {
  id: string;
  name: string;
  kind: string;
  look: Look;
}

export interface Listener {
  onChoose(id: string | null): void;
  onOpen(id: string): void;
}

export interface Viewport {
  zoom: number;
  pan: { x: number; y: number };
}

/** From so many nodes on, what is of interest stands out by a full colour, and lines are pale. */
export const LARGE = 400;
/** Names can be read from this zoom on. */
const READABLE = 0.7;

const CHARACTER = 6.9;
const LONGEST = 30;
const HEIGHT = 26;
/** Around the whole graph, in pixels. */
const MARGIN = 24;
const LEAST_ZOOM = 0.02;
const MOST_ZOOM = 2.5;
/** So many nodes or lines are added before the clock is looked at, and for so long, in milliseconds, until the page has its turn. */
const AT_ONCE = 100;
const SLICE = 40;

const STANDING_OUT: readonly Look[] = ["failure", "warning", "running", "skipped"];
const DASHED: ReadonlySet<Look> = new Set<Look>(["skipped", "not run", "waiting"]);
const THICK: ReadonlySet<Look> = new Set<Look>(["failure", "running"]);

/** Return how wide a node is drawn. */
export const widthOf = (name: string): number => Math.min(name.length + 2, LONGEST) * CHARACTER + 20;

export class LineageView {
  readonly #core: cytoscape.Core;
  readonly #abort = new AbortController();
  readonly #observer: ResizeObserver;
  #dim: cytoscape.CollectionReturnValue;

  /** Show nothing yet: `add` does. */
  constructor(container: HTMLElement, isLarge: boolean, listener: Listener) {
    const core = cytoscape({
      container,
      style: styleOf(isLarge),
      minZoom: LEAST_ZOOM,
      maxZoom: MOST_ZOOM,
      autoungrabify: true,
      boxSelectionEnabled: false,
      textureOnViewport: isLarge,
    });
    this.#core = core;
    this.#dim = core.collection();
    core.on("tap", (event) => listener.onChoose(event.target === core ? null : idOf(event.target)));
    core.on("dbltap", "node", (event) => listener.onOpen(event.target.id()));
    core.on("mouseover", "node", () => container.classList.add("over-node"));
    core.on("mouseout", "node", () => container.classList.remove("over-node"));
    window.addEventListener("themechange", () => core.style(styleOf(isLarge)), { signal: this.#abort.signal });
    this.#observer = new ResizeObserver(() => core.resize());
    this.#observer.observe(container);
  }

  destroy(): void {
    this.#abort.abort();
    this.#observer.disconnect();
    this.#core.container()?.classList.remove("over-node");
    this.#core.destroy();
  }

  /** Add nodes and lines, and return whether all are in; the view may be destroyed meanwhile. */
  async add(
    nodes: readonly DrawnNode[],
    edges: readonly { from: string; to: string }[],
    places: ReadonlyMap<string, Place>,
  ): Promise<boolean> {
    const elements: cytoscape.ElementDefinition[] = [
      ...nodes.map((node) => ({
        group: "nodes" as const,
        data: { id: node.id, label: labelOf(node), look: node.look, kind: node.kind, width: widthOf(node.name) },
        position: { ...(places.get(node.id) ?? { x: 0, y: 0 }) },
        // Who drags a node moves the graph.
        pannable: true,
      })),
      ...edges.map((edge) => ({
        group: "edges" as const,
        data: { id: `${edge.from}\n${edge.to}`, source: edge.from, target: edge.to },
      })),
    ];
    const core = this.#core;
    // Between slices there is always a batch that has not ended, so that nothing is drawn.
    core.startBatch();
    let since = performance.now();
    for (let at = 0; at < elements.length; at += AT_ONCE) {
      if (performance.now() - since > SLICE) {
        await new Promise((resolve) => setTimeout(resolve));
        if (core.destroyed()) return false;
        since = performance.now();
      }
      const added = core.add(elements.slice(at, at + AT_ONCE));
      core.endBatch();
      // Styles and sizes are worked out when they are asked for: now, rather than all with the first picture.
      added.boundingBox();
      core.startBatch();
    }
    core.endBatch();
    return true;
  }

  /** Take the looks of nodes anew. */
  setLooks(nodes: readonly DrawnNode[]): void {
    const core = this.#core;
    if (core.destroyed()) return;
    core.batch(() => {
      for (const node of nodes) {
        const element = core.getElementById(node.id);
        if (element.nonempty() && element.data("look") !== node.look)
          element.data({ look: node.look, label: labelOf(node) });
      }
    });
  }

  /** Mark a node, and the lines from it and to it; with null, none. */
  choose(id: string | null): void {
    const core = this.#core;
    if (core.destroyed()) return;
    const chosen = id === null ? core.collection() : core.getElementById(id);
    const near = chosen.closedNeighborhood();
    const dim = chosen.empty() ? core.collection() : core.elements().not(near);
    core.batch(() => {
      core.elements(".chosen, .near").removeClass("chosen near");
      // From one node to the next, few change.
      this.#dim.not(dim).removeClass("dim");
      dim.not(this.#dim).addClass("dim");
      near.addClass("near");
      chosen.addClass("chosen");
    });
    this.#dim = dim;
  }

  /** Return where a node stands. */
  place(id: string): Place {
    const element = this.#core.getElementById(id);
    return element.nonempty() ? element.position() : { x: 0, y: 0 };
  }

  get viewport(): Viewport {
    return { zoom: this.#core.zoom(), pan: { ...this.#core.pan() } };
  }

  set viewport(viewport: Viewport) {
    this.#core.viewport(viewport);
  }

  /** Show the whole graph, nothing larger than it is; where names could not be read then, what is around `centre` instead. */
  fit(centre?: string): void {
    const core = this.#core;
    core.fit(undefined, MARGIN);
    const element = core.getElementById(centre ?? "");
    if (element.nonempty() && core.zoom() < READABLE) {
      core.zoom(READABLE);
      core.center(element);
    } else if (core.zoom() > 1) {
      core.zoom(1);
      core.center();
    }
  }

  /** Bring a node into sight, large enough to be read. */
  show(id: string): void {
    const core = this.#core;
    const element = core.getElementById(id);
    if (element.empty()) return;
    if (core.zoom() < READABLE) core.zoom({ level: READABLE, position: element.position() });
    const { x1, x2, y1, y2 } = element.renderedBoundingBox();
    if (x1 < 0 || y1 < 0 || x2 > core.width() || y2 > core.height()) core.center(element);
  }

  /** Zoom around the middle of what is in sight. */
  zoomBy(factor: number): void {
    const core = this.#core;
    core.zoom({ level: core.zoom() * factor, renderedPosition: { x: core.width() / 2, y: core.height() / 2 } });
  }
}

const idOf = (element: cytoscape.SingularElementReturnValue): string | null => (element.isNode() ? element.id() : null);

/** Return what is written into a node; text that would turn its direction, or has lines, stays one plain line. */
function labelOf({ name, look }: DrawnNode): string {
  const plain = name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "·");
  return `${SIGNS[look]} ${plain.length > LONGEST - 2 ? `${plain.slice(0, LONGEST - 3)}…` : plain}`;
}

/** Return the style of now. A canvas knows no style sheet, so the colours are read from it. */
function styleOf(isLarge: boolean): cytoscape.StylesheetJson {
  const root = getComputedStyle(document.documentElement);
  const color = (name: string) => root.getPropertyValue(`--${name}`).trim();
  const full = (look: Look) => color(look.replace(" ", "-"));
  return [
    {
      selector: "node",
      style: {
        shape: "round-rectangle",
        "corner-radius": 5,
        width: "data(width)",
        height: HEIGHT,
        label: "data(label)",
        color: color("text"),
        "font-size": 12,
        "font-family": "Inter, Segoe UI, Helvetica, Arial, sans-serif",
        "text-valign": "center",
        "text-halign": "center",
        "min-zoomed-font-size": 7,
      },
    },
    { selector: 'node[kind = "source"], node[kind = "seed"]', style: { "corner-radius": HEIGHT / 2 } },
    { selector: 'node[kind = "test"], node[kind = "unit_test"]', style: { shape: "rectangle" } },
    ...LOOKS.map((look) => ({
      selector: `node[look = "${look}"]`,
      style: {
        "background-color": color(`${look.replace(" ", "-")}-subtle`),
        "border-color": full(look),
        "border-width": THICK.has(look) ? 2.5 : 1.5,
        "border-style": DASHED.has(look) ? "dashed" : "solid",
        // What is of interest is drawn last, so that nothing lies over it.
        "z-index": STANDING_OUT.includes(look) ? 1 : 0,
      },
    })),
    ...(isLarge ? STANDING_OUT : []).map((look) => ({
      selector: `node[look = "${look}"]`,
      style: { "background-color": full(look), color: color("on-state") },
    })),
    {
      selector: "edge",
      style: {
        width: isLarge ? 1 : 1.2,
        "line-color": color("line-strong"),
        "line-opacity": isLarge ? 0.5 : 1,
        "target-arrow-color": color("line-strong"),
        "target-arrow-shape": "triangle",
        "arrow-scale": 0.7,
        "curve-style": "straight",
        "source-endpoint": "50% 0%",
        "target-endpoint": "-50% 0%",
      },
    },
    { selector: ".dim", style: { opacity: 0.25 } },
    {
      selector: "edge.near",
      style: {
        "line-color": color("text"),
        "target-arrow-color": color("text"),
        width: 1.8,
        "line-opacity": 1,
      },
    },
    { selector: "node.chosen", style: { "border-width": 3.5, "border-color": color("focus") } },
  ] as cytoscape.StylesheetJson;
}
