/** How the graph is drawn. A canvas knows no style sheet, so the colours are read from it. */
import type cytoscape from "cytoscape";
import { LOOKS, type Look } from "../model/looks";

export const LARGE = 400;
const STANDING_OUT: ReadonlySet<Look> = new Set<Look>(["failure", "warning", "running", "skipped"]);

/** Return what makes a large graph move without a stutter. */
export function optionsFor(isLarge: boolean) {
  return {
    minZoom: 0.02,
    maxZoom: 2.5,
    autoungrabify: true,
    boxSelectionEnabled: false,
    textureOnViewport: isLarge,
    hideEdgesOnViewport: isLarge,
    hideLabelsOnViewport: isLarge,
    ...(isLarge ? { pixelRatio: 1 } : {}),
  };
}

export function styleOf(): cytoscape.StylesheetJson {
  const root = getComputedStyle(document.documentElement);
  const color = (name: string) => root.getPropertyValue(`--${name}`).trim();
  const looks = LOOKS.map((look) => ({
    selector: `node[look = "${look}"]`,
    style: {
      "background-color": color(`${look.replace(" ", "-")}-subtle`),
      "border-color": color(look.replace(" ", "-")),
      "border-width": look === "failure" || look === "running" ? 2.5 : 1.5,
      "border-style":
        look === "skipped" || look === "not run" || look === "waiting" ? ("dashed" as const) : ("solid" as const),
    },
  }));
  return [
    {
      selector: "node",
      style: {
        shape: "round-rectangle",
        width: "data(width)",
        height: 26,
        label: "data(label)",
        color: color("text"),
        "font-size": 12,
        "font-family": "Inter, Segoe UI, Helvetica, Arial, sans-serif",
        "text-valign": "center",
        "text-halign": "center",
        "text-wrap": "ellipsis",
        "text-max-width": "200px",
        "min-zoomed-font-size": 7,
      },
    },
    { selector: 'node[kind = "source"], node[kind = "seed"]', style: { shape: "barrel" } },
    { selector: 'node[kind = "test"], node[kind = "unit_test"]', style: { shape: "rectangle", "font-size": 11 } },
    ...looks,
    // From afar, what is of interest stands out by a full colour.
    ...LOOKS.filter((look) => STANDING_OUT.has(look)).map((look) => ({
      selector: `node.plain[look = "${look}"]`,
      style: { "background-color": color(look.replace(" ", "-")), color: color("on-state") },
    })),
    {
      selector: "edge",
      style: {
        width: 1.2,
        "line-color": color("line-strong"),
        "target-arrow-color": color("line-strong"),
        "target-arrow-shape": "triangle",
        "arrow-scale": 0.7,
        "curve-style": "straight",
        "source-endpoint": "50% 0%",
        "target-endpoint": "-50% 0%",
      },
    },
    { selector: "edge.plain", style: { "curve-style": "haystack", width: 1, "line-opacity": 0.5 } },
    { selector: ".dim", style: { opacity: 0.25 } },
    {
      selector: "edge.near",
      style: { "line-color": color("text"), "target-arrow-color": color("text"), width: 1.8, "line-opacity": 1 },
    },
    { selector: "node.chosen", style: { "border-width": 3.5, "border-color": color("focus") } },
  ] as cytoscape.StylesheetJson;
}
