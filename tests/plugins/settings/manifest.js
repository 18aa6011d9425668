// A plugin that shows what config and secrets reached it.
export default {
  id: "test.settings",
  apiVersion: 1,
  version: "1.0.0",
  displayName: "Settings",
  description: "Shows the config it runs with, so that a test sees what reached it, and how.",
  author: "Paperclip plugin platform for Kubernetes",
  categories: ["automation"],
  capabilities: ["agent.tools.register", "secrets.read-ref"],
  entrypoints: { worker: "./worker.js" },
  instanceConfigSchema: {
    type: "object",
    additionalProperties: false,
    required: ["colour"],
    properties: {
      colour: { type: "string", minLength: 1 },
      size: { type: "integer", minimum: 0 },
      token: { type: ["string", "object"], format: "secret-ref" },
      smtp: { type: "object", properties: { password: { type: "string" } } },
    },
  },
  tools: [
    {
      name: "show",
      displayName: "Show",
      description: "Shows config, secrets and how often config changed.",
      parametersSchema: { type: "object", additionalProperties: false, properties: {} },
    },
  ],
};
