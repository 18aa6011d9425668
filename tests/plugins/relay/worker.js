// A worker of one file that writes down which pod did what: JSON-RPC 2.0, one message a line.
let pod = "";
let nextId = 1;
const waiting = new Map();

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Asks the host, on behalf of the invocation that is being served. */
function ask(method, params, paperclipInvocationId) {
  const id = nextId++;
  const answer = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  send({ id, method, params, ...(paperclipInvocationId && { paperclipInvocationId }) });
  return answer;
}

/** Adds this pod to the entry of something that was done. */
async function record(what, invocation) {
  const at = { scopeKind: "instance", stateKey: `relay-${what}` };
  const before = await ask("state.get", at, invocation);
  const pods = [...(before?.pods ?? []), pod];
  await ask("state.set", { ...at, value: { pods } }, invocation);
}

const METHODS = {
  initialize: async () => {
    pod = (await import("node:os")).hostname();
    await ask("events.subscribe", { eventPattern: "plugin.test.relay.*" });
    return { ok: true, supportedMethods: ["health"] };
  },
  health: () => ({ status: "ok" }),
  shutdown: () => null,
  handleWebhook: async ({ parsedBody }, invocation) => {
    const { name, emit, sleep } = parsedBody;
    if (sleep) await pause(sleep);
    if (emit) {
      const companyId = "00000000-0000-4000-8000-000000000001";
      await ask("events.emit", { name: "said", companyId, payload: { name: emit } }, invocation);
    }
    if (name) await record(`webhook-${name}`, invocation);
    return null;
  },
  runJob: async ({ job }, invocation) => {
    await record(`job-${job.scheduledAt}`, invocation);
    return null;
  },
  onEvent: ({ event }, invocation) => record(`event-${event.payload.name}`, invocation),
};

async function serve({ id, method, params, paperclipInvocation }) {
  const handler = METHODS[method];
  if (!handler) {
    if (id !== undefined) send({ id, error: { code: -32601, message: `no method ${method}` } });
    return;
  }
  try {
    const result = await handler(params ?? {}, paperclipInvocation?.id);
    if (id !== undefined) send({ id, result });
  } catch (error) {
    console.error(`relay: ${method}: ${error?.message}`);
    if (id !== undefined) send({ id, error: { code: -32002, message: String(error?.message ?? error) } });
  }
  if (method === "shutdown") process.exit(0);
}

function settle({ id, result, error }) {
  const call = waiting.get(id);
  waiting.delete(id);
  if (error) call?.reject(new Error(error.message));
  else call?.resolve(result);
}

let rest = "";
process.stdin.setEncoding("utf8");
process.stdin.on("end", () => process.exit(0));
process.stdin.on("data", (data) => {
  const lines = (rest + data).split("\n");
  rest = lines.pop();
  for (const line of lines) {
    if (line === "") continue;
    const message = JSON.parse(line);
    if (message.method) void serve(message);
    else settle(message);
  }
});
