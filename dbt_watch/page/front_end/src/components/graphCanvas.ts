/**
 * Draws a lineage on a canvas: thousands of nodes and lines within a frame or two.
 *
 * `Graph` makes one. It knows places and looks, and neither React nor what stands beside it. All of one look is drawn at once, and
 * only what is in sight; while a large graph is moved on a slow machine, its lines are left out.
 */
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

/** From so many nodes on, what is of interest stands out by a full colour, and lines are pale. */
export const LARGE = 400;
/** Names can be read from this zoom on. */
export const READABLE = 0.7;

const CHARACTER = 6.9;
const LONGEST = 30;
const HEIGHT = 26;
/** Around the whole graph, in pixels. */
const MARGIN = 24;
const LEAST_ZOOM = 0.02;
const MOST_ZOOM = 2.5;
/** No name is drawn in a smaller script, in pixels. */
const LEAST_SCRIPT = 7;
const SCRIPT = 12;
/** So many lines are stroked at once: one path of thousands is slow to fill. */
const LINES_AT_ONCE = 200;
/** When drawing takes longer, in milliseconds, lines are left out while the graph is moved. */
const SLOW = 24;
const STILL_AFTER = 120;
/** A pointer that moves less, in pixels, clicks. */
const CLICK = 4;
const DOUBLE_CLICK = 400;

const STANDING_OUT: ReadonlySet<Look> = new Set<Look>(["failure", "warning", "running", "skipped"]);
const DASHED: ReadonlySet<Look> = new Set<Look>(["skipped", "not run", "waiting"]);
const THICK: ReadonlySet<Look> = new Set<Look>(["failure", "running"]);
const ROUND: ReadonlySet<string> = new Set(["source", "seed"]);
const SQUARE: ReadonlySet<string> = new Set(["test", "unit_test"]);

/** Return how wide a node is drawn. */
export const widthOf = (name: string): number => Math.min(name.length + 2, LONGEST) * CHARACTER + 20;

interface Box extends DrawnNode {
  x: number;
  y: number;
  /** Half of its width. */
  half: number;
  label: string;
  isDim: boolean;
  isChosen: boolean;
}

interface Line {
  from: Box;
  to: Box;
  isNear: boolean;
}

interface Colors {
  text: string;
  onState: string;
  line: string;
  focus: string;
  full: Map<Look, string>;
  subtle: Map<Look, string>;
}

interface Frame {
  left: number;
  right: number;
  top: number;
  bottom: number;
}

export class GraphCanvas {
  readonly #canvas: HTMLCanvasElement;
  readonly #pen: CanvasRenderingContext2D;
  readonly #listener: Listener;
  readonly #abort = new AbortController();
  readonly #observer: ResizeObserver;
  readonly #pointers = new Map<number, { x: number; y: number }>();
  #colors: Colors;
  #boxes: Box[] = [];
  #byId = new Map<string, Box>();
  #lines: Line[] = [];
  #zoom = 1;
  #pan = { x: 0, y: 0 };
  #hasChosen = false;
  #frame = 0;
  #still: ReturnType<typeof setTimeout> | undefined;
  #isMoving = false;
  #took = 0;
  #moved = 0;
  #clicked = { id: "", at: 0 };

  constructor(canvas: HTMLCanvasElement, listener: Listener) {
    const pen = canvas.getContext("2d");
    if (!pen) throw new Error("this browser draws on no canvas");
    this.#canvas = canvas;
    this.#pen = pen;
    this.#listener = listener;
    this.#colors = colorsOf();
    this.#observer = new ResizeObserver(() => this.#resize());
    this.#observer.observe(canvas);
    this.#resize();
    const signal = this.#abort.signal;
    canvas.addEventListener("pointerdown", this.#onDown, { signal });
    canvas.addEventListener("pointermove", this.#onMove, { signal });
    canvas.addEventListener("pointerup", this.#onUp, { signal });
    canvas.addEventListener("pointercancel", this.#onUp, { signal });
    canvas.addEventListener("wheel", this.#onWheel, { signal, passive: false });
    window.addEventListener("themechange", this.#onTheme, { signal });
  }

  destroy(): void {
    this.#abort.abort();
    this.#observer.disconnect();
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#still);
  }

  get width(): number {
    return this.#canvas.clientWidth;
  }

  get height(): number {
    return this.#canvas.clientHeight;
  }

  /** Take another graph; it is drawn at once. */
  setGraph(
    nodes: readonly DrawnNode[],
    edges: readonly { from: string; to: string }[],
    places: ReadonlyMap<string, Place>,
  ): void {
    this.#boxes = nodes.map((node) => ({
      ...node,
      ...(places.get(node.id) ?? { x: 0, y: 0 }),
      half: widthOf(node.name) / 2,
      label: labelOf(node),
      isDim: false,
      isChosen: false,
    }));
    this.#byId = new Map(this.#boxes.map((box) => [box.id, box]));
    this.#lines = edges.flatMap((edge) => {
      const [from, to] = [this.#byId.get(edge.from), this.#byId.get(edge.to)];
      return from && to ? [{ from, to, isNear: false }] : [];
    });
    this.#hasChosen = false;
  }

  /** Take the looks of nodes anew. */
  setLooks(nodes: readonly { id: string; look: Look }[]): void {
    let isChanged = false;
    for (const { id, look } of nodes) {
      const box = this.#byId.get(id);
      if (!box || box.look === look) continue;
      box.look = look;
      box.label = labelOf(box);
      isChanged = true;
    }
    if (isChanged) this.#later();
  }

  /** Mark a node, and the lines from it and to it; with null, none. */
  choose(id: string | null): void {
    const chosen = id === null ? undefined : this.#byId.get(id);
    this.#hasChosen = chosen !== undefined;
    const near = new Set(chosen ? [chosen] : []);
    for (const line of this.#lines) {
      line.isNear = chosen !== undefined && (line.from === chosen || line.to === chosen);
      if (line.isNear) near.add(line.from).add(line.to);
    }
    for (const box of this.#boxes) {
      box.isDim = chosen !== undefined && !near.has(box);
      box.isChosen = box === chosen;
    }
    this.#later();
  }

  /** Return where a node stands. */
  place(id: string): Place {
    return this.#byId.get(id) ?? { x: 0, y: 0 };
  }

  /** Show the whole graph, nothing larger than it is; where names could not be read then, what is around `centre` instead. */
  fit(centre?: string): void {
    if (this.#boxes.length === 0) {
      this.#later();
      return;
    }
    const [left, right, top, bottom] = this.#boxes.reduce(
      ([x1, x2, y1, y2], { x, y, half }) => [
        Math.min(x1, x - half),
        Math.max(x2, x + half),
        Math.min(y1, y - HEIGHT),
        Math.max(y2, y + HEIGHT),
      ],
      [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
    ) as [number, number, number, number];
    const room = Math.min((this.width - 2 * MARGIN) / (right - left), (this.height - 2 * MARGIN) / (bottom - top), 1);
    const box = centre === undefined ? undefined : this.#byId.get(centre);
    if (box && room < READABLE) this.#look(READABLE, box.x, box.y);
    else this.#look(Math.max(room, LEAST_ZOOM), (left + right) / 2, (top + bottom) / 2);
  }

  /** Bring a node into sight, large enough to be read. */
  show(id: string): void {
    const box = this.#byId.get(id);
    if (!box) return;
    if (this.#zoom < READABLE) {
      this.#look(READABLE, box.x, box.y);
      return;
    }
    const { left, right, top, bottom } = this.#sight();
    const isInside = box.x - box.half >= left && box.x + box.half <= right;
    if (!isInside || box.y - HEIGHT < top || box.y + HEIGHT > bottom) this.#look(this.#zoom, box.x, box.y);
  }

  /** Zoom around a point of the canvas, by default its middle. */
  zoomBy(factor: number, x = this.width / 2, y = this.height / 2): void {
    const zoom = Math.min(Math.max(this.#zoom * factor, LEAST_ZOOM), MOST_ZOOM);
    const by = zoom / this.#zoom;
    this.#pan = { x: x - (x - this.#pan.x) * by, y: y - (y - this.#pan.y) * by };
    this.#zoom = zoom;
    this.#later();
  }

  /** Draw now, and return for how many milliseconds that took. */
  draw(): number {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    const begun = performance.now();
    const ratio = this.#canvas.width / Math.max(this.width, 1);
    this.#pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#pen.clearRect(0, 0, this.width, this.height);
    const sight = this.#sight();
    const isHasty = this.#isMoving && this.#took > SLOW;
    if (!isHasty) this.#drawLines(sight);
    this.#drawBoxes(this.#boxes.filter((box) => isIn(box, sight)));
    const took = performance.now() - begun;
    if (!isHasty) this.#took = took;
    return took;
  }

  // What is in sight.

  #look(zoom: number, x: number, y: number): void {
    this.#zoom = zoom;
    this.#pan = { x: this.width / 2 - zoom * x, y: this.height / 2 - zoom * y };
    this.#later();
  }

  #sight(): Frame {
    const { x, y } = this.#pan;
    const zoom = this.#zoom;
    return { left: -x / zoom, right: (this.width - x) / zoom, top: -y / zoom, bottom: (this.height - y) / zoom };
  }

  #later(): void {
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.draw());
  }

  #resize(): void {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (this.#canvas.width === width && this.#canvas.height === height) return;
    this.#canvas.width = width;
    this.#canvas.height = height;
    // Setting a size wipes the canvas, so it must not wait for a frame.
    this.draw();
  }

  // Drawing. Places are computed here and not by the canvas, so that lines are as thin at any zoom.

  #drawLines(sight: Frame): void {
    const isLarge = this.#boxes.length > LARGE;
    const lines = this.#lines.filter(({ from, to }) => isLineIn(from, to, sight));
    const { line, text } = this.#colors;
    const plain = lines.filter(({ isNear }) => !isNear);
    this.#stroke(plain, line, isLarge ? 1 : 1.2, (isLarge ? 0.5 : 1) * (this.#hasChosen ? 0.3 : 1));
    if (this.#hasChosen) {
      const near = lines.filter(({ isNear }) => isNear);
      this.#stroke(near, text, 1.8, 1);
    }
  }

  #stroke(lines: readonly Line[], color: string, width: number, opacity: number): void {
    const pen = this.#pen;
    const zoom = this.#zoom;
    const { x, y } = this.#pan;
    const withArrows = zoom > 0.35;
    pen.strokeStyle = color;
    pen.fillStyle = color;
    pen.globalAlpha = opacity;
    pen.lineWidth = Math.max(width * Math.min(zoom, 1), 0.6);
    for (let at = 0; at < lines.length; at += LINES_AT_ONCE) {
      const some = lines.slice(at, at + LINES_AT_ONCE);
      pen.beginPath();
      for (const { from, to } of some) {
        pen.moveTo((from.x + from.half) * zoom + x, from.y * zoom + y);
        pen.lineTo((to.x - to.half) * zoom + x, to.y * zoom + y);
      }
      pen.stroke();
      if (!withArrows) continue;
      pen.beginPath();
      for (const { from, to } of some) arrow(pen, from, to, zoom, x, y);
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  #drawBoxes(boxes: readonly Box[]): void {
    for (const isDim of [true, false]) {
      const some = boxes.filter((box) => box.isDim === isDim);
      this.#pen.globalAlpha = isDim ? 0.25 : 1;
      // What is of interest is drawn last, so that nothing lies over it.
      for (const look of [...LOOKS].reverse()) {
        const group = some.filter((box) => box.look === look);
        if (group.length > 0) this.#drawGroup(look, group);
      }
    }
    this.#pen.globalAlpha = 1;
  }

  #drawGroup(look: Look, boxes: readonly Box[]): void {
    const pen = this.#pen;
    const zoom = this.#zoom;
    const standsOut = this.#boxes.length > LARGE && STANDING_OUT.has(look);
    const full = this.#colors.full.get(look) ?? "";
    const fill = standsOut ? full : (this.#colors.subtle.get(look) ?? "");
    pen.fillStyle = fill;
    pen.strokeStyle = full;
    pen.lineWidth = (THICK.has(look) ? 2.5 : 1.5) * Math.min(Math.max(zoom, 0.3), 1);
    pen.setLineDash(DASHED.has(look) && zoom > 0.3 ? [4 * zoom, 3 * zoom] : []);
    pen.beginPath();
    for (const box of boxes) this.#outline(box);
    pen.fill();
    pen.stroke();
    pen.setLineDash([]);
    const chosen = boxes.find((box) => box.isChosen);
    if (chosen) {
      pen.strokeStyle = this.#colors.focus;
      pen.lineWidth = 3.5;
      pen.beginPath();
      this.#outline(chosen);
      pen.stroke();
    }
    if (SCRIPT * zoom < LEAST_SCRIPT) return;
    pen.fillStyle = standsOut ? this.#colors.onState : this.#colors.text;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.font = `${SCRIPT * zoom}px Inter, "Segoe UI", Helvetica, Arial, sans-serif`;
    for (const box of boxes) {
      pen.fillText(box.label, box.x * zoom + this.#pan.x, box.y * zoom + this.#pan.y, 2 * box.half * zoom);
    }
  }

  #outline(box: Box): void {
    const zoom = this.#zoom;
    const [left, top] = [(box.x - box.half) * zoom + this.#pan.x, (box.y - HEIGHT / 2) * zoom + this.#pan.y];
    const [width, height] = [2 * box.half * zoom, HEIGHT * zoom];
    // Corners that nobody sees cost the most.
    if (zoom < 0.3 || SQUARE.has(box.kind)) this.#pen.rect(left, top, width, height);
    else this.#pen.roundRect(left, top, width, height, ROUND.has(box.kind) ? height / 2 : 5 * zoom);
  }

  // The pointer.

  #at(event: MouseEvent): { x: number; y: number } {
    const { left, top } = this.#canvas.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  #boxAt({ x, y }: { x: number; y: number }): Box | undefined {
    const [at, height] = [(x - this.#pan.x) / this.#zoom, (y - this.#pan.y) / this.#zoom];
    // From afar a node is smaller than a finger.
    const reach = Math.max(HEIGHT / 2, 5 / this.#zoom);
    return this.#boxes.findLast((box) => Math.abs(box.x - at) <= box.half && Math.abs(box.y - height) <= reach);
  }

  #onDown = (event: PointerEvent): void => {
    if (event.button > 0) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
    this.#moved = this.#pointers.size > 1 ? Number.POSITIVE_INFINITY : 0;
  };

  #onMove = (event: PointerEvent): void => {
    const to = this.#at(event);
    const from = this.#pointers.get(event.pointerId);
    if (!from) {
      this.#canvas.classList.toggle("over-node", this.#boxAt(to) !== undefined);
      return;
    }
    const others = [...this.#pointers].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    this.#pointers.set(event.pointerId, to);
    this.#moved += Math.hypot(to.x - from.x, to.y - from.y);
    if (this.#moved < CLICK) return;
    this.#move();
    const other = others[0];
    if (other) {
      const [before, now] = [
        Math.hypot(from.x - other.x, from.y - other.y),
        Math.hypot(to.x - other.x, to.y - other.y),
      ];
      this.zoomBy(now / Math.max(before, 1), (to.x + other.x) / 2, (to.y + other.y) / 2);
    }
    const share = others.length + 1;
    this.#pan.x += (to.x - from.x) / share;
    this.#pan.y += (to.y - from.y) / share;
    this.#later();
  };

  #onUp = (event: PointerEvent): void => {
    if (!this.#pointers.delete(event.pointerId) || event.type === "pointercancel" || this.#moved >= CLICK) return;
    const id = this.#boxAt(this.#at(event))?.id ?? null;
    const isSecond = id !== null && id === this.#clicked.id && event.timeStamp - this.#clicked.at < DOUBLE_CLICK;
    this.#clicked = { id: id ?? "", at: event.timeStamp };
    if (isSecond) this.#listener.onOpen(id);
    else this.#listener.onChoose(id);
  };

  #onWheel = (event: WheelEvent): void => {
    event.preventDefault();
    const { x, y } = this.#at(event);
    const pixels = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? event.deltaY * 30 : event.deltaY;
    this.#move();
    // Two fingers on a pad come as a turned wheel with the control key, in small steps.
    this.zoomBy(Math.exp(-Math.max(Math.min(pixels, 240), -240) * (event.ctrlKey ? 0.01 : 0.002)), x, y);
  };

  #onTheme = (): void => {
    this.#colors = colorsOf();
    this.#later();
  };

  /** Take note that the graph is being moved, and draw it whole when that is over. */
  #move(): void {
    this.#isMoving = true;
    clearTimeout(this.#still);
    this.#still = setTimeout(() => {
      this.#isMoving = false;
      if (this.#took > SLOW) this.#later();
    }, STILL_AFTER);
  }
}

const isIn = ({ x, y, half }: Box, { left, right, top, bottom }: Frame): boolean =>
  x + half >= left && x - half <= right && y + HEIGHT >= top && y - HEIGHT <= bottom;

/** Return whether a line may be in sight, judged by the rectangle around it. */
const isLineIn = (from: Box, to: Box, { left, right, top, bottom }: Frame): boolean =>
  Math.max(from.x + from.half, to.x) >= left &&
  Math.min(from.x, to.x - to.half) <= right &&
  Math.max(from.y, to.y) >= top &&
  Math.min(from.y, to.y) <= bottom;

/** Draw the point of a line. */
function arrow(pen: CanvasRenderingContext2D, from: Box, to: Box, zoom: number, x: number, y: number): void {
  const [endX, endY] = [(to.x - to.half) * zoom + x, to.y * zoom + y];
  const [byX, byY] = [endX - (from.x + from.half) * zoom - x, endY - from.y * zoom - y];
  const size = (7 * zoom) / Math.max(Math.hypot(byX, byY), 1);
  const [alongX, alongY] = [byX * size, byY * size];
  pen.moveTo(endX, endY);
  pen.lineTo(endX - alongX - alongY / 2, endY - alongY + alongX / 2);
  pen.lineTo(endX - alongX + alongY / 2, endY - alongY - alongX / 2);
  pen.closePath();
}

/** Return what is written into a node; text that would turn its direction, or has lines, stays one plain line. */
function labelOf({ name, look }: DrawnNode): string {
  const plain = name.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "·");
  return `${SIGNS[look]} ${plain.length > LONGEST - 2 ? `${plain.slice(0, LONGEST - 3)}…` : plain}`;
}

/** Return the colours of now. A canvas knows no style sheet, so they are read from it. */
function colorsOf(): Colors {
  const root = getComputedStyle(document.documentElement);
  const color = (name: string) => root.getPropertyValue(`--${name}`).trim();
  const key = (look: Look) => look.replace(" ", "-");
  return {
    text: color("text"),
    onState: color("on-state"),
    line: color("line-strong"),
    focus: color("focus"),
    full: new Map(LOOKS.map((look) => [look, color(key(look))])),
    subtle: new Map(LOOKS.map((look) => [look, color(`${key(look)}-subtle`)])),
  };
}
