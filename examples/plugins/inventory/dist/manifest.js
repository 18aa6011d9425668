// What the plugin is and what it asks for. Pure data: hosts import this file.

/** @type {import("@paperclipai/plugin-sdk").PaperclipPluginManifestV1} */
const manifest = {
  id: "example.inventory",
  apiVersion: 1,
  version: "1.0.0",
  displayName: "Inventory example",
  description: "Keeps the stock of a small shop and counts what happened to it.",
  author: "Paperclip plugin platform for Kubernetes",
  categories: ["automation"],
  capabilities: [
    "agent.tools.register",
    "events.emit",
    "events.subscribe",
    "jobs.schedule",
    "plugin.state.read",
    "plugin.state.write",
    "webhooks.receive",
  ],
  entrypoints: { worker: "./dist/worker.js" },
  instanceConfigSchema: {
    type: "object",
    additionalProperties: false,
    properties: {
      unit: {
        type: "string",
        default: "piece",
        description: "What one item is called in answers.",
      },
      lowStock: {
        type: "integer",
        minimum: 0,
        default: 5,
        description: "A quantity at or below this is reported as low.",
      },
    },
  },
  tools: [
    {
      name: "add_stock",
      displayName: "Add stock",
      description: "Adds a quantity of an article to the stock and says how much there is now.",
      parametersSchema: {
        type: "object",
        additionalProperties: false,
        required: ["sku", "quantity"],
        properties: {
          sku: { type: "string", minLength: 1, description: "Article number." },
          quantity: { type: "integer", minimum: 1, description: "How many to add." },
        },
      },
    },
  ],
  jobs: [
    {
      jobKey: "recount",
      displayName: "Recount",
      description: "Adds up the stock and keeps the sum.",
      schedule: "0 4 * * *",
    },
  ],
  webhooks: [
    {
      endpointKey: "delivery",
      displayName: "Delivery",
      description: 'A supplier reports a delivery: {"sku": "...", "quantity": 1}.',
    },
  ],
};

export default manifest;
