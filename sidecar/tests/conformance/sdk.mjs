// A plugin over the published SDK that answers as the case asks for.
import { definePlugin, runWorker } from "@paperclipai/plugin-sdk";

const plugin = definePlugin({
  async setup(ctx) {
    ctx.data.register("echo", async (params) => params);
    ctx.data.register("nothing", async () => null);
    ctx.data.register("never", () => new Promise(() => {}));
    ctx.data.register("fails", async ({ code }) => {
      throw Object.assign(new Error("it failed"), code === undefined ? {} : { code });
    });
    ctx.data.register("state", ({ stateKey }) => ctx.state.get({ scopeKind: "instance", stateKey }));
    ctx.actions.register("echo", async (params) => params);
    const declaration = { displayName: "Search", description: "d", parametersSchema: { type: "object" } };
    ctx.tools.register("search", declaration, async (params, { companyId }) => ({ content: "found", data: { params, companyId } }));
    ctx.jobs.register("sync", async () => {});
  },
  async onHealth() {
    return { status: "ok" };
  },
});

export default plugin;
runWorker(plugin, import.meta.url);
