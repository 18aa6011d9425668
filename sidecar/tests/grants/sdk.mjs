// What the published SDK says of its methods, and how its gate judges calls.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [sdkPath, callsPath, resultsPath] = process.argv.slice(2);
const sdk = await import(pathToFileURL(sdkPath).href);
const answers = () => new Proxy(async () => null, { get: (_, name) => (name === "then" ? undefined : answers()) });
const gate = (capabilities) =>
  sdk.createHostClientHandlers({ pluginId: "test", capabilities, services: answers() });
const judged = async (handlers, method, params, context) => {
  try {
    await handlers[method](params, context);
    return 0;
  } catch (error) {
    // Without a code it is the handler's own: the gate let the call through.
    return error.code ?? 0;
  }
};

const names = Object.keys(gate([]));
const capabilities = Object.fromEntries(names.map((name) => [name, sdk.getRequiredCapability(name)]));
const everything = [...new Set([...sdk.PLUGIN_CAPABILITIES])];
const whole = gate(everything);
const scope = { invocationScope: { companyId: "a" } };
const denied = async (code, judge) => {
  const found = [];
  for (const name of names) if ((await judge(name)) === code) found.push(name);
  return found;
};
const report = {
  asked: capabilities,
  served: [...sdk.HOST_TO_WORKER_REQUIRED_METHODS, ...sdk.HOST_TO_WORKER_OPTIONAL_METHODS],
  all: everything,
  own: await denied(-32005, (name) => judged(whole, name, {}, {})),
  filtered: await denied(-32005, (name) => judged(whole, name, { filter: { companyId: "b" } }, scope)),
  persons: await denied(-32001, (name) =>
    judged(gate([capabilities[name]].filter(Boolean)), name, { actorUserId: "u" }, scope)),
  told: [sdk.LOGIN_PTY_OUTPUT_NOTIFICATION, sdk.LOGIN_PTY_EXIT_NOTIFICATION,
    sdk.DUPLEX_CHANNEL_DATA_NOTIFICATION, sdk.DUPLEX_CHANNEL_EXIT_NOTIFICATION],
  calls: [],
};
for (const { method, params } of JSON.parse(readFileSync(callsPath, "utf8")))
  report.calls.push(await judged(whole, method, JSON.parse(params), scope));
writeFileSync(resultsPath, JSON.stringify(report));
