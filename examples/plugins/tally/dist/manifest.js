// What the plugin is and what it asks for. Pure data: hosts import this file.
export default {
  id: "example.tally",
  apiVersion: 1,
  version: "1.0.0",
  displayName: "Tally example",
  description: "Keeps tallies, with a worker that is no JavaScript.",
  author: "Paperclip plugin platform for Kubernetes",
  categories: ["automation"],
  capabilities: ["agent.tools.register", "plugin.state.read", "plugin.state.write"],
  entrypoints: { worker: "./dist/worker.js" },
  tools: [
    {
      name: "count",
      displayName: "Count",
      description: "Adds to a tally and says where it stands.",
      parametersSchema: {
        type: "object",
        additionalProperties: false,
        required: ["tally"],
        properties: {
          tally: { type: "string", minLength: 1, description: "Name of the tally." },
          by: { type: "integer", minimum: 1, default: 1, description: "How much to add." },
        },
      },
    },
  ],
};
