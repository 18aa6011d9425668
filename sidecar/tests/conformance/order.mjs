// Runs bursts against the server package's own worker manager, with the worker as its child, and
// writes down the order in which each side heard the other.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [managerPath, entrypointPath, casesPath, resultsPath] = process.argv.slice(2);
const { createPluginWorkerHandle } = await import(pathToFileURL(managerPath).href);
const { messages, burst, manifest } = JSON.parse(readFileSync(casesPath, "utf8"));

const host = [];
const note = (method, read) => async (params) => { host.push([method, read(params)]); return null; };
const worker = createPluginWorkerHandle("order", {
  entrypointPath, manifest, config: {}, apiVersion: 1, autoRestart: false,
  instanceInfo: { instanceId: "order", hostVersion: "2026.916.1" },
  hostHandlers: {
    "state.set": note("state.set", ({ value }) => value),
    "events.emit": note("events.emit", ({ payload }) => payload.n),
  },
  onStreamNotification: (method, { event }) => host.push([method, event.n]),
});
await worker.start();
const calls = [];
for (const { method, params, isTold } of messages) {
  if (isTold) worker.notify(method, params);
  else calls.push(worker.call(method, params));
}
await Promise.all(calls);
const heard = await worker.call("getData", { key: "heard" });
await worker.call("performAction", burst);
writeFileSync(resultsPath, JSON.stringify({ heard, host }));
await worker.stop();
process.exit(0);
