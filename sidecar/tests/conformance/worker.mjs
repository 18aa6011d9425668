// Keeps what it hears, and answers as the case asks for.
const heard = [];
const dispatch = handle;
handle = (line, message) => {
  // The sidecar asks for health on its own; `initialize` names the instance.
  const isOurs = message.params?.key === "transcript" || ["health", "initialize"].includes(message.method);
  if (!isOurs) heard.push(message);
  dispatch(line, message);
};

const asking = new Map();
handlers.answer = ({ id, result, error }) => {
  const call = asking.get(id);
  asking.delete(id);
  if (call) send({ id: call.id, result: { result, error } });
};

const ways = {
  transcript: ({ id }) => send({ id, result: heard.splice(0) }),
  echo: ({ id, params }) => send({ id, result: params }),
  nothing: ({ id }) => send({ id, result: null }),
  large: ({ id }) => send({ id, result: "x".repeat(300_000) }),
  error: ({ id, params }) => send({ id, error: params.error }),
  never: () => {},
  both: ({ id, params }) => send({ id, result: null, error: params.error }),
  twice: ({ id }) => { send({ id, result: 1 }); send({ id, result: 2 }); },
  other: ({ id }) => { send({ id: 4_000_000_000, result: 1 }); send({ id: null, result: 1 }); send({ id, result: 2 }); },
  noise: ({ id }) => { say("no message"); say("[1]"); say(""); say("{\"jsonrpc\":\"2.0\"}"); send({ id, result: 1 }); },
  tells: ({ id }) => { send({ method: "log", params: { level: "debug", message: "m" } }); send({ id, result: 1 }); },
  asks: (call) => {
    const invocation = call.paperclipInvocation && { paperclipInvocationId: call.paperclipInvocation.id };
    for (const { id, method, params } of call.params.asks) {
      asking.set(id, call);
      send({ id, method, params, ...invocation });
    }
  },
};
const act = (call) => ways[call.params.key](call);
handlers.getData = act;
handlers.performAction = act;
handlers.executeTool = act;
