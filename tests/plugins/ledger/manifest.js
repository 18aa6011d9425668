// A plugin whose only tool writes down that it was called.
export default {
  id: "test.ledger",
  apiVersion: 1,
  version: "1.0.0",
  displayName: "Ledger",
  description: "Keeps one entry a call, so that a test sees which calls were done, and how often.",
  author: "Paperclip plugin platform for Kubernetes",
  categories: ["automation"],
  capabilities: ["agent.tools.register", "plugin.state.read", "plugin.state.write"],
  entrypoints: { worker: "./worker.js" },
  tools: [
    {
      name: "record",
      displayName: "Record",
      description: "Adds one to the entry of a call.",
      parametersSchema: {
        type: "object",
        additionalProperties: false,
        required: ["call"],
        properties: { call: { type: "string", minLength: 1 } },
      },
    },
  ],
};
