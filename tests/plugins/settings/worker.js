// A worker without the SDK: JSON-RPC 2.0, one message a line.

let nextId = 1;
const waiting = new Map();
/** Every config that was announced, oldest first. */
const announced = [];

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);

/** Asks the host, on behalf of the invocation that is being served. */
function ask(method, params, paperclipInvocationId) {
  const id = nextId++;
  const answer = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  send({ id, method, params, ...(paperclipInvocationId && { paperclipInvocationId }) });
  return answer;
}

async function show(invocation) {
  const config = await ask("config.get", {}, invocation);
  const secret = config.token
    ? await ask("secrets.resolve", { secretRef: config.token, configPath: "token" }, invocation)
    : null;
  // What a careless plugin would do; it must not leave the pod.
  if (secret) console.error(`settings: the token is ${secret}`);
  return { content: "shown", data: { config, secret, announced, pid: process.pid } };
}

const METHODS = {
  initialize: () => ({ ok: true, supportedMethods: ["health", "validateConfig", "configChanged"] }),
  health: () => ({ status: "ok" }),
  shutdown: () => null,
  validateConfig: ({ config }) =>
    config.colour === "invisible"
      ? { ok: false, errors: ["colour: nobody can see invisible"], warnings: [] }
      : { ok: true, errors: [], warnings: [] },
  configChanged: ({ config }) => {
    announced.push(config);
    return null;
  },
  executeTool: (_, invocation) => show(invocation),
};

async function serve({ id, method, params, paperclipInvocation }) {
  if (id === undefined) return;
  const handler = METHODS[method];
  if (!handler) return send({ id, error: { code: -32601, message: `no method ${method}` } });
  try {
    send({ id, result: await handler(params ?? {}, paperclipInvocation?.id) });
  } catch (error) {
    send({ id, error: { code: -32002, message: String(error?.message ?? error) } });
  }
  if (method === "shutdown") process.exit(0);
}

function settle({ id, result, error }) {
  const call = waiting.get(id);
  waiting.delete(id);
  if (error) call?.reject(new Error(error.message));
  else call?.resolve(result);
}

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
