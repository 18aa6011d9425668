// Runs what the original is known to break against its own worker manager: each of the
// scenarios of breaks.rs, with the same worker as its child.
import { randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [managerPath, entrypointPath, sdkPath, resultsPath] = process.argv.slice(2);
const { createPluginWorkerHandle } = await import(pathToFileURL(managerPath).href);
const manifest = { id: "test.breaks", apiVersion: 1, version: "1.0.0", capabilities: [] };

const start = async (entrypointPath) => {
  const worker = createPluginWorkerHandle("breaks", {
    entrypointPath, manifest, config: {}, apiVersion: 1, hostHandlers: {}, autoRestart: true,
    instanceInfo: { instanceId: "breaks", hostVersion: "2026.916.1" },
  });
  await worker.start();
  return worker;
};
const data = (worker, key, more = {}) => worker.call("getData", { key, ...more }, 2000);
const until = async (holds, patience) => {
  for (const end = Date.now() + patience; Date.now() < end && !holds();) await new Promise((resolve) => setTimeout(resolve, 20));
  return holds();
};
const die = async (worker) => {
  await worker.call("performAction", { key: "die" }).catch(() => {});
  await until(() => worker.status !== "running", 5000);
};
const event = { event: { eventId: "e-1", eventType: "issue.created", payload: {} } };
const job = { job: { jobKey: "sync", runId: "r", trigger: "schedule", scheduledAt: "2026-09-20T10:01:00.000Z" } };

const scenarios = {
  separatorInResult: (worker) => data(worker, "separators"),
  carriageReturn: (worker) => data(worker, "carriage"),
  separatorInParams: async (_, sdk) => (await sdk.call("getData", { key: "echo", params: { text: "a\u2028b" } }, 2000)).text,
  eventTwice: async (worker) => {
    worker.notify("onEvent", event);
    worker.notify("onEvent", event);
    return data(worker, "events");
  },
  slotTwice: async (worker) => {
    await Promise.all([worker.call("runJob", job), worker.call("runJob", job)]);
    return data(worker, "runs");
  },
  callDuringRestart: async (worker) => {
    await die(worker);
    return data(worker, "one");
  },
  configAfterCrash: async (worker) => {
    await until(() => worker.status === "running", 10_000);
    await worker.call("configChanged", { config: { a: 1 }, companyId: "c" });
    await die(worker);
    await until(() => worker.status === "running", 10_000);
    return data(worker, "configs");
  },
  initializeHangs: async (worker) => {
    await data(worker, "hang");
    await die(worker);
    // 15 s for initialize, and time enough for another start, which would come within 3.
    await until(() => worker.status === "running", 22_000);
    return data(worker, "one");
  },
  terminalNotClosed: async () => {
    const worker = await start(entrypointPath);
    const ids = { driverKey: "d", companyId: "c", environmentId: "e", providerLeaseId: "l", loginCommandKey: "claude" };
    const terminal = await worker.openLoginPtySession({ ...ids, sessionHome: `/tmp/paperclip-adapter-login/${randomUUID()}` });
    await terminal.close();
    return retired(worker);
  },
  strayFrame: async () => {
    const worker = await start(entrypointPath);
    await data(worker, "stray");
    return retired(worker);
  },
  callDuringStop: async () => {
    const worker = await start(entrypointPath);
    const slow = data(worker, "slow").then((result) => ({ result }), (error) => ({ error }));
    await data(worker, "one");
    await worker.stop();
    const { result, error } = await slow;
    if (error) throw error;
    return result;
  },
};
// What a worker answers that the manager has killed, once there was time for it to start again.
const retired = async (worker) => {
  await until(() => worker.status !== "running", 5000);
  await until(() => worker.status === "running", 5000);
  return data(worker, "one");
};
const results = {};
const worker = await start(entrypointPath);
const sdk = await start(sdkPath);
for (const [name, scenario] of Object.entries(scenarios))
  results[name] = await scenario(worker, sdk).then((result) => ({ result }), ({ message }) => ({ error: message }));
writeFileSync(resultsPath, JSON.stringify(results));
await Promise.all([worker.stop(), sdk.stop()]);
process.exit(0);
