/** Writes the licences of all packages that are part of the build beside it. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Plugin } from "vite";

const PERMISSIVE = new Set(["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD"]);

interface Package {
  name: string;
  version: string;
  license: string;
  text: string;
}

/** Return the package that a module belongs to; undefined for one of our own. */
function packageOf(module: string): Package | undefined {
  const path = module.replace(/^\0/, "").replace(/\?.*$/, "");
  if (!path.includes("/node_modules/")) return undefined;
  for (let folder = dirname(path); folder.includes("/node_modules/"); folder = dirname(folder)) {
    const file = join(folder, "package.json");
    if (!existsSync(file)) continue;
    const { name, version, license } = JSON.parse(readFileSync(file, "utf8"));
    if (!name || !version) continue;
    const licence = readdirSync(folder).find((entry) => /^licen[cs]e(\.|$)/i.test(entry));
    const text = licence ? readFileSync(join(folder, licence), "utf8").trim() : "";
    return { name, version, license: String(license), text };
  }
  return undefined;
}

export function leaveLicences(): Plugin {
  const found = new Map<string, Package>();
  return {
    name: "leave-licences",
    apply: "build",
    generateBundle(_options, bundle) {
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== "chunk") continue;
        for (const module of Object.keys(chunk.modules)) {
          const used = packageOf(module);
          if (used) found.set(`${used.name} ${used.version}`, used);
        }
      }
      const packages = [...found.entries()].sort(([a], [b]) => (a < b ? -1 : 1));
      for (const [title, used] of packages) {
        if (!PERMISSIVE.has(used.license))
          this.error(`${title} has the licence ${used.license}, which is not permissive`);
      }
      const parts = packages.map(([title, used]) => `${title}\n${used.license}\n\n${used.text}`.trim());
      const source = `The page is built with these packages:\n\n${parts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
      this.emitFile({ type: "asset", fileName: "THIRD-PARTY.txt", source });
    },
  };
}
