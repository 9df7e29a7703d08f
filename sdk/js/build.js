// `node build.js DIR --wit FOLDER --out FILE`: from a plugin's folder to a component. `sandbar plugin build`
// runs it; the last line on standard output is a JSON object with the plugin's name.

import { spawnSync } from "node:child_process";
import { appendFileSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { componentize } from "@bytecodealliance/componentize-js";
import * as esbuild from "esbuild";

import { HANDLER } from "./src/handler.js";

const SDK = path.join(path.dirname(fileURLToPath(import.meta.url)), "src");
/** Parts of the engine that import WASI, by the grant that an operator gives for them. */
const FEATURES = ["stdio", "random", "clocks", "http", "fetch-event"];
const GRANTS = ["stdio", "random", "clocks", "http"];
const ENTRIES = ["handler.ts", "handler.js", "src/handler.ts", "src/handler.js"];

/** What a plugin uses of the host's is imported; what it does not use is left out with the module that would. */
const host = {
  name: "host",
  setup(build) {
    const resolve = ({ path }) => ({
      path: `sandbar:events/${path.slice("#host/".length)}@0.1.1`,
      external: true,
      sideEffects: false,
    });
    build.onResolve({ filter: /^#host\// }, resolve);
  },
};

/** What the author can mend: shown without a stack. */
class BuildError extends Error {}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { wit: { type: "string" }, out: { type: "string" } },
});
const scratch = mkdtempSync(path.join(tmpdir(), "sandbar-js-"));
try {
  const name = await build(path.resolve(positionals[0]), values.wit, values.out);
  console.log(JSON.stringify({ name }));
} catch (error) {
  console.error(error instanceof BuildError ? `error: ${error.message}` : error);
  process.exitCode = 1;
} finally {
  rmSync(scratch, { recursive: true });
}

async function build(dir, wit, out) {
  const facts = JSON.parse(readFileSync(path.join(dir, "package.json"), "utf8"));
  const entry = entryOf(dir, facts);
  if (entry.endsWith(".ts")) checkTypes(dir);
  const definition = await definitionIn(dir, entry);
  const disableFeatures = without(facts.sandbar?.grants ?? []);
  const { code, imports } = await bundle(dir, glue(entry, facts, definition));
  const sourcePath = path.join(scratch, "bundle.js");
  writeFileSync(sourcePath, code);
  const { witPath, worldName } = world(wit, imports, definition.handleBatch ? "batch-handler" : "handler");
  const { component } = await componentize({ sourcePath, witPath, worldName, disableFeatures });
  writeFileSync(out, component);
  return (facts.name ?? path.basename(dir)).split("/").pop();
}

function entryOf(dir, facts) {
  const candidates = facts.sandbar?.entry ? [facts.sandbar.entry] : ENTRIES;
  const found = candidates.find((file) => existsSync(path.join(dir, file)));
  if (found) return found;
  throw new BuildError(`${dir} has no ${candidates.join(", ")}: name the file in package.json, "sandbar": { "entry": "..." }`);
}

function checkTypes(dir) {
  let tsc;
  try {
    const manifest = createRequire(path.join(dir, "package.json")).resolve("typescript/package.json");
    tsc = path.join(path.dirname(manifest), "bin", "tsc");
  } catch {
    throw new BuildError("TypeScript is not installed here: `npm install --save-dev typescript`");
  }
  const { status } = spawnSync(process.execPath, [tsc, "--noEmit", "--project", dir], { stdio: ["ignore", 2, 2] });
  if (status !== 0) throw new BuildError("the types do not fit: what tsc says is above");
}

/** Runs the author's module here, so that a mistake in it is found before the slow part. */
async function definitionIn(dir, entry) {
  const file = path.join(scratch, "definition.mjs");
  await esbuild.build({ ...common(dir), entryPoints: [path.join(dir, entry)], outfile: file, sourcemap: "inline" });
  let module;
  try {
    module = await import(pathToFileURL(file));
  } catch (error) {
    throw new BuildError(`${entry} cannot be loaded: ${error.stack}`);
  }
  if (!module.default?.[HANDLER]) {
    throw new BuildError(`${entry} must \`export default defineHandler({ topics: [...], handle(event, ctx) {...} })\``);
  }
  return module.default;
}

function common(dir) {
  return {
    absWorkingDir: dir,
    bundle: true,
    format: "esm",
    target: "es2022",
    platform: "neutral",
    mainFields: ["module", "main"],
    // one copy, whatever the author's folder links to: `instanceof` must hold
    alias: { "sandbar-sdk": path.join(SDK, "index.js") },
    external: ["wasi:*", "sandbar:*"],
    logLevel: "warning",
  };
}

function glue(entry, facts, definition) {
  const about = {
    name: facts.name?.split("/").pop(),
    version: facts.version ?? "0.0.0",
    description: facts.description ?? "",
    annotations: Object.entries({
      license: facts.license,
      homepage: facts.homepage,
      repository: facts.repository?.url ?? facts.repository,
      authors: facts.author?.name ?? facts.author,
    }).filter(([, value]) => typeof value === "string" && value !== ""),
  };
  const kind = definition.handleBatch ? "batchHandler" : "handler";
  return `
    import { log } from "wasi:logging/logging@0.1.0-draft";
    import * as config from "wasi:config/store@0.2.0-rc.1";
    import * as context from "sandbar:events/context@0.1.1";
    import definition from ${JSON.stringify(`./${entry}`)};
    import { component } from ${JSON.stringify(path.join(SDK, "component.js"))};
    const made = component(definition, ${JSON.stringify(about)}, { log, config, context });
    export const plugin = made.plugin;
    export const lifecycle = made.lifecycle;
    export const ${kind} = made.${kind};
  `;
}

async function bundle(dir, contents) {
  const { outputFiles, metafile } = await esbuild.build({
    ...common(dir),
    stdin: { contents, resolveDir: dir, sourcefile: "sandbar:entry" },
    outfile: path.join(dir, "bundle.js"),
    plugins: [host],
    sourcemap: "external",
    sourcesContent: false,
    metafile: true,
    write: false,
  });
  const [map, code] = outputFiles.sort((a, b) => b.path.length - a.path.length);
  const { sources, mappings } = JSON.parse(map.text);
  // no one looks for a mistake in the SDK's own frames
  const shown = sources.map((file) => (path.resolve(dir, file).startsWith(SDK + path.sep) ? null : file));
  const outputs = Object.values(metafile.outputs);
  return {
    code: `${code.text}\nglobalThis.__sandbarSourceMap = ${JSON.stringify({ sources: shown, mappings })};\n`,
    imports: outputs.flatMap((output) => output.imports).map((imported) => imported.path),
  };
}

/** The contract with one more world, of what the bundle imports: a component imports all of its world, used or not. */
function world(wit, imports, handler) {
  const witPath = path.join(scratch, "wit");
  cpSync(wit, witPath, { recursive: true });
  const lines = [
    ...new Set(imports.map((name) => `  import ${name.match(/^sandbar:events\/(.*)@/)?.[1] ?? name};`)),
    ...["plugin", "lifecycle", handler].map((name) => `  export ${name};`),
  ];
  appendFileSync(path.join(witPath, "types.wit"), `\nworld js-plugin {\n${lines.join("\n")}\n}\n`);
  return { witPath, worldName: "js-plugin" };
}

function without(grants) {
  const unknown = grants.find((grant) => !GRANTS.includes(grant));
  if (unknown) {
    throw new BuildError(`package.json: "sandbar": { "grants" } has "${unknown}", known are ${GRANTS.join(", ")}`);
  }
  return FEATURES.filter((feature) => !grants.includes(feature));
}
