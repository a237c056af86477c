// The official JavaScript SDK as it was up to version 3.
const { url, socket, keys, day, sdk, tell, until, refusal, run } = require("./told.cjs");

const Alpaca = sdk();
const BTC = "BTC/USD";

const pointed = (secretKey) =>
  new Alpaca({ keyId: keys.key, secretKey, baseUrl: url, dataBaseUrl: url, dataStreamUrl: socket });

const words = (error) => JSON.stringify(error.response.data);

const settled = (client, order, status) =>
  until(async () => {
    const now = await client.getOrder(order.id);
    return now.status === status && now;
  }, `${order.client_order_id} is not ${status}`);

const buy = (wish) => ({ symbol: BTC, side: "buy", time_in_force: "gtc", ...wish });

run(async () => {
  const client = pointed(keys.secret);
  const heard = await listen(client);
  await look(client);
  await trade(client);
  const isFill = (update) => update.event === "fill" && update.order.client_order_id === "market";
  await until(() => heard.some(isFill), "the fill was not heard");
  tell("updates", heard.map((update) => [update.event, update.order.client_order_id]));
  await leave(client);
  await watch(client);
  await refuse();
});

// The client cannot tell when it listens, so orders are its probe.
async function listen(client) {
  const heard = [];
  client.trade_ws.onOrderUpdate((update) => heard.push(update));
  client.trade_ws.onConnect(() => client.trade_ws.subscribe(["trade_updates"]));
  client.trade_ws.connect();
  await until(async () => {
    const wish = buy({ qty: 0.001, type: "limit", limit_price: 11000 });
    const order = await client.createOrder(wish);
    await settled(client, order, "new");
    await client.cancelOrder(order.id);
    await settled(client, order, "canceled");
    return heard.length;
  }, "nothing is heard");
  return heard;
}

async function look(client) {
  const account = await client.getAccount();
  tell("account", { cash: account.cash, status: account.status });
  tell("clock", (await client.getClock()).is_open);
  tell("assets", (await client.getAssets({ asset_class: "crypto" })).map((asset) => asset.symbol));
  tell("asset", (await client.getAsset(BTC)).symbol);
  const asked = { start: day, timeframe: "1Min", limit: 100 };
  const bars = (await client.getCryptoBars([BTC], asked)).get(BTC);
  tell("bars", [bars.length, bars[0].Close]);
  const quote = (await client.getLatestCryptoQuotes([BTC])).get(BTC);
  tell("quote", [quote.BidPrice, quote.AskPrice]);
  tell("bar", (await client.getLatestCryptoBars([BTC])).get(BTC).Close);
  const book = (await client.getCryptoOrderbooks([BTC])).get(BTC);
  tell("orderbook", [book.Bids[0].Price, book.Asks[0].Price]);
}

async function trade(client) {
  const market = await client.createOrder(buy({ qty: 0.01, type: "market", client_order_id: "market" }));
  const done = await settled(client, market, "filled");
  tell("market", [done.filled_qty, done.filled_avg_price]);
  const worth = await client.createOrder(buy({ notional: 50.25, type: "market", client_order_id: "worth" }));
  tell("notional", (await settled(client, worth, "filled")).notional);
  const limit = buy({ qty: "0.001", type: "limit", limit_price: "15000", client_order_id: "limit" });
  const resting = await settled(client, await client.createOrder(limit), "new");
  tell("limit", [resting.qty, resting.limit_price]);
  const prices = { stop_price: "40000", limit_price: "40100" };
  const stop = buy({ qty: "0.001", type: "stop_limit", client_order_id: "stop", ...prices });
  tell("stop_limit", (await settled(client, await client.createOrder(stop), "new")).stop_price);
  tell("by_client_id", (await client.getOrderByClientId("limit")).id === resting.id);
  tell("open", (await client.getOrders({ status: "open" })).map((order) => order.client_order_id));
  tell("all", (await client.getOrders({ status: "all", symbols: BTC, nested: true })).length);
  tell("taken", await refusal(() => client.createOrder(limit), words));
  const replaced = await client.replaceOrder(resting.id, { limit_price: "15500" });
  const price = (await settled(client, replaced, "new")).limit_price;
  tell("replace", [replaced.replaces === resting.id, price]);
  await client.cancelOrder(replaced.id);
  tell("cancel", (await settled(client, replaced, "canceled")).filled_qty);
  await client.cancelAllOrders();
  tell("cancel_all", await until(async () => !(await client.getOrders({})).length, "orders are open"));
}

async function leave(client) {
  const [position] = await client.getPositions();
  tell("positions", [position.symbol, position.qty]);
  tell("position", (await client.getPosition("BTCUSD")).qty_available);
  const tooMuch = { ...buy({ qty: 0.02, type: "market" }), side: "sell" };
  tell("too_much", await refusal(() => client.createOrder(tooMuch), words));
  tell("close", (await settled(client, await client.closePosition("BTCUSD"), "filled")).filled_qty);
  await client.closeAllPositions();
  tell("close_all", await until(async () => !(await client.getPositions()).length, "it is still held"));
  tell("fills", (await client.getAccountActivities({ activityTypes: "FILL" })).map((fill) => fill.qty));
  tell("history", (await client.getPortfolioHistory({ period: "1D", timeframe: "1Min" })).equity);
  tell("trade", (await client.getLatestCryptoTrades([BTC])).get(BTC).Price);
  tell("snapshot", (await client.getCryptoSnapshots([BTC])).get(BTC).LatestQuote.BidPrice);
}

async function watch(client) {
  const seen = { quotes: [], bars: [] };
  const stream = client.crypto_stream_v1beta3;
  stream.onCryptoQuote((quote) => seen.quotes.push(quote.AskPrice));
  stream.onCryptoBar((bar) => seen.bars.push(bar.Close));
  stream.onConnect(() => {
    stream.subscribeForQuotes([BTC]);
    stream.subscribeForBars([BTC]);
  });
  stream.connect();
  await until(() => seen.quotes.length > 3 && seen.bars.length, "no quotes and bars");
  tell("stream", seen);
  stream.disconnect();
}

async function refuse() {
  const stranger = pointed(keys.wrong);
  tell("wrong_keys", await refusal(() => stranger.getAccount(), words));
  const said = [];
  stranger.crypto_stream_v1beta3.onError((error) => said.push(error));
  stranger.crypto_stream_v1beta3.connect();
  await until(() => said.length, "the stream took wrong keys");
  tell("wrong_stream_keys", said[0]);
}
