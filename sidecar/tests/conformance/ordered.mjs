// Notes the lines it hears in their order, answers each call at once, and says bursts of its own.
const heard = [];
const dispatch = handle;
handle = (line, message) => {
  if (message.params?.n !== undefined || message.params?.event || message.params?.job)
    heard.push([message.method, message.params.n ?? message.params.event?.n ?? message.params.job?.n]);
  dispatch(line, message);
};
handlers.initialize = ({ id }) => send({ id, result: { ok: true, supportedMethods: [] } });
handlers.health = ({ id }) => send({ id, result: { status: "ok" } });
const answer = ({ id, params }) => send({ id, result: params.n ?? null });
handlers.executeTool = handlers.handleWebhook = handlers.runJob = answer;
handlers.getData = (message) => (message.params.key === "heard" ? send({ id: message.id, result: heard }) : answer(message));
handlers.performAction = ({ id, params, paperclipInvocation }) => {
  if (params.key !== "burst") return send({ id, result: params.n });
  const { companyId, count } = params;
  const paperclipInvocationId = paperclipInvocation.id;
  for (let n = 0; n < count; n++) {
    send({ method: "streams.emit", params: { channel: "c", companyId, event: { n } }, paperclipInvocationId });
    send({ id: `s${n}`, method: "state.set", params: { scopeKind: "instance", stateKey: "k", value: n, companyId }, paperclipInvocationId });
    send({ id: `e${n}`, method: "events.emit", params: { name: "n", companyId, payload: { n } }, paperclipInvocationId });
  }
  // In the same breath: what comes before is said within the call.
  send({ id, result: count });
};
