// A plugin that a benchmark calls: one tool answers, the other does what no worker should.
export default {
  id: "bench.load",
  apiVersion: 1,
  version: "1.0.0",
  displayName: "Load",
  description: "Answers with what it is asked, and misbehaves when a benchmark tells it to.",
  author: "Paperclip plugin platform for Kubernetes",
  categories: ["automation"],
  capabilities: ["agent.tools.register", "plugin.state.read"],
  entrypoints: { worker: "./worker.js" },
  tools: [
    {
      name: "echo",
      displayName: "Echo",
      description: "Answers with its parameters.",
      parametersSchema: { type: "object" },
    },
    {
      name: "misbehave",
      displayName: "Misbehave",
      description: "Takes what it can get, in one of several ways, for some seconds.",
      parametersSchema: {
        type: "object",
        additionalProperties: false,
        required: ["how", "seconds"],
        properties: {
          how: { enum: ["not", "fork", "memory", "stdout", "callbacks"] },
          seconds: { type: "number", minimum: 0, maximum: 60 },
        },
      },
    },
  ],
};
