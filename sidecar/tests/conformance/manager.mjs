// Runs the cases against the server package's own worker manager, with the worker as its
// child, and writes down what came of each.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [managerPath, entrypointPath, casesPath, resultsPath] = process.argv.slice(2);
const { createPluginWorkerHandle } = await import(pathToFileURL(managerPath).href);
const { cases, manifest } = JSON.parse(readFileSync(casesPath, "utf8"));

// The host of the test answers the same way.
const hostHandlers = {
  "state.get": async (params) => {
    if (params.fail) throw Object.assign(new Error(params.fail.message), { code: params.fail.code });
    return { got: params };
  },
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
  const heard = await worker.call("getData", { key: "transcript" });
  results.push({ outcome, heard });
}
writeFileSync(resultsPath, JSON.stringify(results));
await worker.stop();
process.exit(0);
