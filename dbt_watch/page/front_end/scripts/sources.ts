/**
 * Leaves the digest of the sources beside what was built from them, so that a build that is older than they are is noticed.
 *
 * `tests/test_page_build.py` computes the same.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const PARTS = [
  "index.html",
  "package-lock.json",
  "package.json",
  "public",
  "scripts",
  "src",
  "tsconfig.json",
  "vite.config.ts",
];

function filesOf(root: string, part: string): string[] {
  if (!statSync(join(root, part)).isDirectory()) return [part];
  return readdirSync(join(root, part)).flatMap((name) => filesOf(root, `${part}/${name}`));
}

/** Return the digest of all that the build is made from: each file's path, a zero byte, and the SHA-256 of its content. */
export function digestOf(root: string): string {
  const digest = createHash("sha256");
  for (const file of PARTS.flatMap((part) => filesOf(root, part)).sort()) {
    const content = createHash("sha256")
      .update(readFileSync(join(root, file)))
      .digest("hex");
    digest.update(`${file}\0${content}\n`);
  }
  return digest.digest("hex");
}

export function leaveSources(): Plugin {
  let root = "";
  return {
    name: "leave-sources",
    apply: "build",
    configResolved(config) {
      root = config.root;
    },
    generateBundle() {
      this.emitFile({ type: "asset", fileName: "SOURCES.sha256", source: `${digestOf(root)}\n` });
    },
  };
}
