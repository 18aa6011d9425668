// The plugin through the SDK's own test harness.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createTestHarness } from "@paperclipai/plugin-sdk/testing";

import manifest from "../dist/manifest.js";
import plugin from "../dist/worker.js";

const COMPANY = "00000000-0000-4000-8000-000000000001";

async function started(config = {}) {
  const harness = createTestHarness({ manifest, config });
  await plugin.definition.setup(harness.ctx);
  return harness;
}

test("the tool adds to the stock and counts the call", async () => {
  const harness = await started({ unit: "box", lowStock: 2 });
  const result = await harness.executeTool("add_stock", { sku: "tea", quantity: 3 }, { companyId: COMPANY });
  assert.equal(result.content, "tea: 3 box(s)");
  assert.deepEqual(await harness.getData("stock"), { tea: 3 });
  assert.equal((await harness.getData("counters")).tool, 1);
});

test("a quantity at or below the configured limit is low", async () => {
  const harness = await started({ lowStock: 3 });
  const result = await harness.executeTool("add_stock", { sku: "tea", quantity: 3 }, { companyId: COMPANY });
  assert.equal(result.data.low, true);
});

test("the tool says what is wrong with its parameters", async () => {
  const harness = await started();
  const result = await harness.executeTool("add_stock", { sku: "", quantity: 1 }, { companyId: COMPANY });
  assert.match(result.error, /^sku: /);
  assert.equal((await harness.getData("counters")).tool, 0);
});

test("the action emits an event and the event adds to the stock", async () => {
  const harness = await started();
  const answer = await harness.performAction("restock", { sku: "tea", quantity: 10 }, { companyId: COMPANY });
  assert.deepEqual(answer, { accepted: { sku: "tea", quantity: 10 } });
  assert.deepEqual(await harness.getData("stock"), { tea: 10 });
  assert.equal((await harness.getData("counters")).event, 1);
});

test("the webhook adds what was delivered", async () => {
  const harness = await started();
  await plugin.definition.onWebhook({
    endpointKey: "delivery",
    headers: {},
    rawBody: '{"sku":"tea","quantity":4}',
    requestId: "1",
  });
  assert.deepEqual(await harness.getData("stock", { sku: "tea" }), { tea: 4 });
  assert.equal((await harness.getData("counters")).webhook, 1);
});

test("the job keeps the sum of the stock", async () => {
  const harness = await started();
  await harness.executeTool("add_stock", { sku: "tea", quantity: 3 }, { companyId: COMPANY });
  await harness.executeTool("add_stock", { sku: "cup", quantity: 2 }, { companyId: COMPANY });
  await harness.runJob("recount");
  const counters = await harness.getData("counters");
  assert.deepEqual([counters.job, counters.total], [1, 5]);
});

test("changes at one time do not lose each other", async () => {
  const harness = await started();
  const one = () => harness.executeTool("add_stock", { sku: "tea", quantity: 1 }, { companyId: COMPANY });
  await Promise.all(Array.from({ length: 20 }, one));
  assert.deepEqual(await harness.getData("stock"), { tea: 20 });
  assert.equal((await harness.getData("counters")).tool, 20);
});
