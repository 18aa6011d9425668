// The stock and its counters, kept in the host's state of this plugin.

/** State of the whole instance: jobs and webhooks belong to no company. */
const at = (stateKey) => ({ scopeKind: "instance", stateKey });

/** A new, empty record of what happened. */
const NO_COUNTERS = Object.freeze({ tool: 0, webhook: 0, event: 0, job: 0, total: 0 });

/** Throws unless this is an article and a whole number of at least one. */
export function checkMovement(movement) {
  const { sku, quantity } = movement ?? {};
  if (typeof sku !== "string" || sku === "") {
    throw new Error(`sku: found ${JSON.stringify(sku)}, wanted a text that is not empty`);
  }
  if (!Number.isSafeInteger(quantity) || quantity < 1) {
    throw new Error(`quantity: found ${JSON.stringify(quantity)}, wanted a whole number of at least 1`);
  }
  return { sku, quantity };
}

export class Stock {
  #state;
  /** Changes wait for each other: state has no operation that reads and writes in one step. */
  #last = Promise.resolve();

  constructor(state) {
    this.#state = state;
  }

  /** Adds to an article and counts the cause. Returns the new quantity. */
  add({ sku, quantity }, cause) {
    return this.#inTurn(async () => {
      const articles = await this.articles();
      articles[sku] = (articles[sku] ?? 0) + quantity;
      await this.#state.set(at("articles"), articles);
      await this.#count(cause);
      return articles[sku];
    });
  }

  /** Adds up all articles, keeps the sum and counts the recount. */
  recount() {
    return this.#inTurn(async () => {
      const total = Object.values(await this.articles()).reduce((sum, one) => sum + one, 0);
      await this.#count("job", { total });
      return total;
    });
  }

  /** Quantity of each article. */
  async articles() {
    return { ...(await this.#state.get(at("articles"))) };
  }

  /** How often each cause changed the stock, and the sum of the last recount. */
  async counters() {
    return { ...NO_COUNTERS, ...(await this.#state.get(at("counters"))) };
  }

  async #count(cause, change = {}) {
    const counters = await this.counters();
    counters[cause] += 1;
    await this.#state.set(at("counters"), { ...counters, ...change });
  }

  #inTurn(change) {
    const result = this.#last.then(change);
    // The next change does not care how this one ended.
    this.#last = result.catch(() => {});
    return result;
  }
}
