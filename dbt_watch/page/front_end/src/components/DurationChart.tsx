/** How long a node took in the last runs, as a small chart. */
import { useStore } from "../data/store";
import { duration } from "../model/format";
import type { NodeRecord } from "../types";

const HEIGHT = 48;
const STEP = 14;
const BAR = 10;

export function DurationChart({ node }: { node: NodeRecord }) {
  const history = useStore((state) => state.history);
  const known = history?.nodes[node.unique_id];
  // The newest run comes first, and time goes from left to right.
  const before = [...(known?.seconds ?? [])].reverse();
  const values = [...before, ...(node.seconds == null ? [] : [node.seconds])];
  const numbers = values.filter((value) => value !== null);
  if (before.every((value) => value === null)) return null;
  const most = Math.max(...numbers, known?.median ?? 0, 1e-9);
  const y = (value: number) => HEIGHT - Math.max((value / most) * (HEIGHT - 4), 1.5);
  const width = values.length * STEP;
  const median = known?.median;
  const words = `Median of the last ${before.length} runs ${median == null ? "not known" : duration(median)}, longest ${duration(most)}${
    node.seconds == null ? "" : `, this one ${duration(node.seconds)}`
  }`;
  return (
    <section>
      <h3>Last runs</h3>
      <svg
        className="chart"
        viewBox={`0 0 ${width} ${HEIGHT}`}
        width={width}
        height={HEIGHT}
        role="img"
        aria-label={words}
      >
        {values.map((value, index) => {
          const isThis = index >= before.length;
          const key = `run ${index}`;
          if (value === null)
            return <rect key={key} className="none" x={index * STEP} y={HEIGHT - 1.5} width={BAR} height={1.5} />;
          return (
            <rect
              key={key}
              className={isThis ? "this" : ""}
              x={index * STEP}
              y={y(value)}
              width={BAR}
              height={HEIGHT - y(value)}
              rx={1}
            >
              <title>{`${isThis ? "this run" : `${before.length - index} runs ago`}: ${duration(value)}`}</title>
            </rect>
          );
        })}
        {median != null && <line className="median" x1={0} x2={width} y1={y(median)} y2={y(median)} />}
      </svg>
      <p className="hint">{words}</p>
    </section>
  );
}
