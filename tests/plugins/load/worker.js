// A worker without the SDK: JSON-RPC 2.0, one message a line. It answers first and misbehaves
// afterwards, until the time it was told is over, so that quiet times can be measured between.
import { spawn } from "node:child_process";

const send = (message) => process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);

/** What runs in a process of the fork bomb: it starts two more and goes on until the end. */
const FORK = `
const { spawn } = require("node:child_process");
const [code, end] = process.argv.slice(1);
const left = Number(end) - Date.now();
if (left > 0) {
  for (let twice = 0; twice < 2; twice++) {
    spawn(process.execPath, ["-e", code, code, end], { stdio: "ignore" }).on("error", () => {});
  }
  setTimeout(() => process.exit(0), left);
}
`;

/** Does something over and over until the end, and lets what was read be taken in between. */
function repeat(end, act) {
  if (Date.now() >= end) return;
  act();
  setImmediate(repeat, end, act);
}

let hoard = [];
let nextId = 1;

const WAYS = {
  not: () => {},
  busy: (end) =>
    repeat(end, () => {
      const pause = Date.now() + 5;
      while (Date.now() < pause);
    }),
  fork: (end) => {
    const line = ["-e", FORK, FORK, String(end)];
    spawn(process.execPath, line, { stdio: "ignore" }).on("error", () => {});
  },
  memory: (end) => {
    repeat(end, () => hoard.push(Buffer.alloc(16 * 1024 * 1024, 1)));
    setTimeout(() => (hoard = []), end - Date.now());
  },
  stdout: (end) => {
    const noise = "noise ".repeat(20) + "\n";
    repeat(end, () => process.stdout.write(noise.repeat(500)));
  },
  callbacks: (end) =>
    repeat(end, () => {
      for (let count = 0; count < 100; count++) {
        send({ id: nextId++, method: "state.get", params: { scopeKind: "instance", stateKey: "none" } });
      }
    }),
};

let busy = false;

/** One way at a time, however often it is told. */
function misbehave({ how, seconds }) {
  if (busy) return;
  busy = true;
  const end = Date.now() + seconds * 1000;
  setTimeout(() => (busy = false), seconds * 1000);
  setImmediate(WAYS[how], end);
}

const TOOLS = {
  echo: (parameters) => ({ content: "echo", data: parameters }),
  misbehave: (parameters) => {
    misbehave(parameters);
    return { content: "as you wish", data: { pid: process.pid } };
  },
};

const METHODS = {
  initialize: () => ({ ok: true, supportedMethods: ["health"] }),
  health: () => ({ status: "ok" }),
  shutdown: () => null,
  executeTool: ({ toolName, parameters }) => TOOLS[toolName](parameters),
};

function serve({ id, method, params }) {
  if (id === undefined) return;
  const handler = METHODS[method];
  if (!handler) return send({ id, error: { code: -32601, message: `no method ${method}` } });
  send({ id, result: handler(params ?? {}) });
  if (method === "shutdown") process.exit(0);
}

function take(line) {
  let message;
  try {
    message = JSON.parse(line);
  } catch {
    return;
  }
  if (message.method) serve(message);
}

let rest = "";
process.stdin.setEncoding("utf8");
process.stdin.on("end", () => process.exit(0));
process.stdin.on("data", (data) => {
  const lines = (rest + data).split("\n");
  rest = lines.pop();
  for (const line of lines) take(line);
});
