// What the package has: the types name what the modules export, and it runs without anything else.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { test } from "node:test";

const ROOT = new URL("../", import.meta.url);
const SOURCES = readdirSync(new URL("src/", ROOT)).filter((name) => name.endsWith(".js"));

test("the types name what is exported", async () => {
  const exported = Object.keys(await import("lipsync-client")).sort();
  const types = readFileSync(new URL("src/index.d.ts", ROOT), "utf8");
  const declared = [...types.matchAll(/^export declare (?:const|class|function\*?) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(declared.sort(), exported);
});

test("it depends on nothing", () => {
  const { dependencies, peerDependencies, exports } = JSON.parse(readFileSync(new URL("package.json", ROOT)));
  assert.equal(dependencies ?? peerDependencies, undefined);
  assert.equal(exports["."].default, "./src/index.js");
  for (const name of SOURCES) {
    const text = readFileSync(new URL(`src/${name}`, ROOT), "utf8");
    for (const [, from] of text.matchAll(/from "([^"]+)"/g)) {
      assert.ok(SOURCES.includes(from.slice(2)) && from.startsWith("./"), `${name} imports ${from}`);
    }
  }
});

test("npm packs the modules, their types and the README, and nothing else", (t) => {
  let listed;
  try {
    const options = { cwd: fileURLToPath(ROOT), encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] };
    listed = execFileSync("npm", ["pack", "--dry-run", "--json", "--offline"], options);
  } catch (error) {
    if (error.code !== "ENOENT") throw error;
    t.skip("npm is not here");
    return;
  }
  const [{ files }] = JSON.parse(listed);
  const wanted = ["README.md", "package.json", "src/index.d.ts", ...SOURCES.map((name) => `src/${name}`)];
  assert.deepEqual(files.map(({ path }) => path).sort(), wanted.sort());
});
