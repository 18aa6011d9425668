// What the bridge is compared with: a worker behind the same contract's unary `Call`, over
// mutual TLS, as an author of a Node service would write it. No sessions, limits or restarts.
//
// Arguments: folder of the contract, folder with tls.crt, tls.key and ca.crt, the worker's
// file, and the params of `initialize` as JSON.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [contract, tls, entry, initialize] = process.argv.slice(2);

const worker = spawn(process.execPath, [entry], { stdio: ["pipe", "pipe", "inherit"] });
worker.on("exit", (code) => process.exit(code ?? 1));

let nextId = 1;
const waiting = new Map();

/** Sends a request to the worker; `params` is JSON. */
function ask(method, params) {
  const id = nextId++;
  const answer = new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
  worker.stdin.write(`{"jsonrpc":"2.0","id":${id},"method":${JSON.stringify(method)},"params":${params}}\n`);
  return answer;
}

function take(line) {
  const { id, method, result, error } = JSON.parse(line);
  if (method || !waiting.has(id)) return;
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  if (error) reject(new Error(error.message));
  else resolve(JSON.stringify(result));
}

let parts = [];
worker.stdout.setEncoding("utf8");
worker.stdout.on("data", (data) => {
  const lines = data.split("\n");
  if (lines.length === 1) return void parts.push(data);
  lines[0] = parts.join("") + lines[0];
  parts = [lines.pop()];
  lines.forEach(take);
});

/** The contract's `Call`. */
function call({ request }, done) {
  ask(request.method, request.paramsJson.toString("utf8") || "{}").then(
    (result) => done(null, { resultJson: Buffer.from(result) }),
    (error) => done({ code: grpc.status.UNKNOWN, details: error.message }),
  );
}

const options = { includeDirs: [contract] };
const loaded = grpc.loadPackageDefinition(loader.loadSync("paperclip/plugin/v1/bridge.proto", options));
const read = (name) => readFileSync(join(tls, name));
const pair = { private_key: read("tls.key"), cert_chain: read("tls.crt") };
const server = new grpc.Server();
server.addService(loaded.paperclip.plugin.v1.PluginBridgeService.service, { call });
await ask("initialize", initialize);
server.bindAsync(
  "127.0.0.1:0",
  grpc.ServerCredentials.createSsl(read("ca.crt"), [pair], true),
  (error, port) => {
    if (error) throw error;
    console.log(JSON.stringify({ message: "listening", grpc: `127.0.0.1:${port}` }));
  },
);
