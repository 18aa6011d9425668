// The worker: what happens when a host calls.

import { definePlugin, runWorker } from "@paperclipai/plugin-sdk";

import manifest from "./manifest.js";
import { Stock, checkMovement } from "./stock.js";

/** Emitted by the action `restock` under this plugin's name, and handled here too. */
const RESTOCKED = "restocked";
const DEFAULTS = Object.freeze({ unit: "piece", lowStock: 5 });

let stock;

const plugin = definePlugin({
  async setup(ctx) {
    stock = new Stock(ctx.state);

    const { displayName, description, parametersSchema } = manifest.tools[0];
    ctx.tools.register(
      "add_stock",
      { displayName, description, parametersSchema },
      async (params, runContext) => {
        let movement;
        try {
          movement = checkMovement(params);
        } catch (error) {
          return { error: error.message };
        }
        const quantity = await stock.add(movement, "tool");
        const { unit, lowStock } = await configOf(ctx, runContext.companyId);
        return {
          content: `${movement.sku}: ${quantity} ${unit}(s)${quantity <= lowStock ? ", which is low" : ""}`,
          data: { sku: movement.sku, quantity, unit, low: quantity <= lowStock },
        };
      },
    );

    ctx.actions.register("restock", async ({ companyId, sku, quantity }) => {
      const movement = checkMovement({ sku, quantity });
      await ctx.events.emit(RESTOCKED, String(companyId), movement);
      return { accepted: movement };
    });

    ctx.events.on(`plugin.${manifest.id}.${RESTOCKED}`, async (event) => {
      await stock.add(checkMovement(event.payload), "event");
    });

    ctx.jobs.register("recount", async (job) => {
      const total = await stock.recount();
      ctx.logger.info("stock recounted", { total, runId: job.runId });
    });

    ctx.data.register("counters", () => stock.counters());
    ctx.data.register("stock", async ({ sku }) => {
      const articles = await stock.articles();
      return sku === undefined ? articles : { [sku]: articles[sku] ?? 0 };
    });
  },

  async onWebhook({ endpointKey, rawBody, parsedBody }) {
    if (endpointKey !== "delivery") {
      throw new Error(`no webhook ${endpointKey}`);
    }
    await stock.add(checkMovement(parsedBody ?? JSON.parse(rawBody)), "webhook");
  },

  async onHealth() {
    return { status: "ok" };
  },
});

async function configOf(ctx, companyId) {
  return { ...DEFAULTS, ...(await ctx.config.get(companyId)) };
}

export default plugin;
runWorker(plugin, import.meta.url);
