// Runs the cases against the server package's own worker manager, with the worker as its
// child, and writes down what came of each.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [managerPath, entrypointPath, casesPath, resultsPath] = process.argv.slice(2);
const { createPluginWorkerHandle } = await import(pathToFileURL(managerPath).href);
const { cases, manifest, transcript } = JSON.parse(readFileSync(casesPath, "utf8"));

// The host of the test answers the same way.
const refused = (message, code) => { throw Object.assign(new Error(message), { code }); };
const store = new Map();
const hostHandlers = {
  "state.get": async (params) => {
    if (params.stateKey === "refused") refused("not today", -32002);
    if (params.fail) refused(params.fail.message, params.fail.code);
    return store.has(params.stateKey) ? store.get(params.stateKey) : { got: params };
  },
  "state.set": async ({ stateKey, value }) => { store.set(stateKey, value); return null; },
};
const worker = createPluginWorkerHandle("conformance", {
  entrypointPath, manifest, config: {}, apiVersion: 1, hostHandlers, autoRestart: false,
  instanceInfo: { instanceId: "conformance", hostVersion: "2026.916.1" },
});
await worker.start();
const results = [];
for (const { method, params, timeout } of cases) {
  let outcome;
  try {
    outcome = { result: await worker.call(method, params, timeout) };
  } catch ({ code, message, data }) {
    outcome = { error: { code, message, ...(data === undefined ? {} : { data }) } };
  }
  const heard = transcript ? await worker.call("getData", { key: "transcript" }) : null;
  results.push({ outcome, heard });
}
writeFileSync(resultsPath, JSON.stringify(results));
await worker.stop();
process.exit(0);
