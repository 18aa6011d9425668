// A worker without the SDK: JSON-RPC 2.0, one message a line.

/** How this release behaves: `serve`, or one of the ways not to. A test sets it when it publishes. */
const BEHAVIOUR = "serve";
const VERSION = "1.0.0";

let nextId = 1;
const waiting = new Map();

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);

/** Asks the host, on behalf of the invocation that is being served. */
function ask(method, params, paperclipInvocationId) {
  const id = nextId++;
  const answer = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  send({ id, method, params, ...(paperclipInvocationId && { paperclipInvocationId }) });
  return answer;
}

/** Adds one to the entry of a call and says how often it was done. */
async function record({ call }, invocation) {
  const at = { scopeKind: "instance", stateKey: `call-${call}` };
  const before = await ask("state.get", at, invocation);
  const count = (before?.count ?? 0) + 1;
  await ask("state.set", { ...at, value: { count } }, invocation);
  return { content: `recorded ${call}`, data: { count, pid: process.pid, version: VERSION } };
}

const METHODS = {
  initialize: () => ({ ok: true, supportedMethods: ["health"] }),
  health: () => ({ status: "ok" }),
  shutdown: () => null,
  executeTool: ({ toolName, parameters }, invocation) => {
    if (toolName !== "record") throw new Error(`no tool ${toolName}`);
    return record(parameters, invocation);
  },
};

async function serve({ id, method, params, paperclipInvocation }) {
  if (id === undefined) return;
  const handler = METHODS[method];
  if (!handler) return send({ id, error: { code: -32601, message: `no method ${method}` } });
  try {
    send({ id, result: await handler(params ?? {}, paperclipInvocation?.id) });
  } catch (error) {
    send({ id, error: { code: -32000, message: String(error?.message ?? error) } });
  }
  if (method === "shutdown") process.exit(0);
}

function settle({ id, result, error }) {
  const call = waiting.get(id);
  waiting.delete(id);
  if (error) call?.reject(new Error(error.message));
  else call?.resolve(result);
}

switch (BEHAVIOUR) {
  case "exit":
    console.error("ledger: the ink has run dry");
    process.exit(7);
    break;
  case "hang":
    METHODS.initialize = () => new Promise(() => {});
    break;
  case "error":
    METHODS.initialize = () => {
      throw new Error("the ledger is bound the wrong way round");
    };
    break;
  case "strict":
    METHODS.initialize = () => ({ ok: true, supportedMethods: ["health", "validateConfig"] });
    METHODS.validateConfig = ({ config }) =>
      config?.shelf === "attic" ? { ok: false, errors: ["the attic leaks"] } : { ok: true };
    break;
  case "noise":
    // A program that does not know that its standard output is spoken for.
    console.log("ledger: opening the book");
    process.stdout.write('{"jsonrpc":"2.0","id":\n{}\nnull\n');
    break;
  case "nonsense":
    METHODS.initialize = () => ["this", "is", "no", "answer"];
    break;
}

/** A sidecar that takes over ends the line that its predecessor may have left unfinished. */
function take(line) {
  let message;
  try {
    message = JSON.parse(line);
  } catch {
    return;
  }
  if (message.method) void serve(message);
  else settle(message);
}

let rest = "";
process.stdin.setEncoding("utf8");
process.stdin.on("end", () => process.exit(0));
process.stdin.on("data", (data) => {
  const lines = (rest + data).split("\n");
  rest = lines.pop();
  for (const line of lines) take(line);
});
