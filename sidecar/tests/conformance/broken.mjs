// Does what the original does not bear, and tells what it heard.
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const hangs = fileURLToPath(new URL("./hangs", import.meta.url));
const events = [], configs = [];
let runs = 0;
handlers.initialize = ({ id }) => {
  if (!existsSync(hangs)) return send({ id, result: { ok: true, supportedMethods: ["configChanged"] } });
  // Once: the next start goes well.
  rmSync(hangs);
};
handlers.health = ({ id }) => send({ id, result: { status: "ok" } });
handlers.onEvent = ({ params }) => events.push(params.event.eventId);
handlers.configChanged = ({ id, params }) => { configs.push(params.config); send({ id, result: null }); };
handlers.runJob = ({ id }) => { runs++; setTimeout(() => send({ id, result: null }), 100); };
handlers.loginPtyOpen = ({ id, params }) => send({ id, result: { hostRouteId: params.hostRouteId, workerSessionId: "s-1" } });
// Without the id that it should echo.
handlers.loginPtyClose = ({ id }) => send({ id, result: {} });
const stray = { hostRouteId: "duplex-route-0", workerSessionId: "nobody", chunk: "" };
handlers.performAction = () => process.kill(process.pid, "SIGKILL");
const ways = {
  separators: (id) => send({ id, result: "a\u2028b" }),
  carriage: (id) => say(`{"jsonrpc":"2.0",\r"id":${id},"result":1}`),
  events: (id) => send({ id, result: events }),
  runs: (id) => send({ id, result: runs }),
  configs: (id) => send({ id, result: configs }),
  one: (id) => send({ id, result: 1 }),
  slow: (id) => setTimeout(() => send({ id, result: 1 }), 1000),
  stray: (id) => { send({ id, result: 1 }); send({ method: "duplexChannel.data", params: stray }); },
  hang: (id) => { writeFileSync(hangs, ""); send({ id, result: 1 }); },
};
handlers.getData = ({ id, params }) => ways[params.key](id);
