// The official JavaScript SDK from version 4 on.
const { url, socket, keys, day, sdk, tell, until, refusal, run } = require("./told.cjs");

const { Alpaca, trading, marketData, streaming } = sdk();
const BTC = "BTC/USD";

// Where the exchange is, is an option of each class; the facade has none for it, but takes a `fetch`.
const at = (secret) => ({ keyId: keys.key, secret, basePath: url });
const streamed = (secret, path) => ({ credentials: { keyId: keys.key, secret }, url: `${socket}${path}` });
const HOSTS = /^https:\/\/(paper-api|data)\.alpaca\.markets/;
const facade = () =>
  new Alpaca({
    keyId: keys.key,
    secret: keys.secret,
    fetchApi: (address, init) => fetch(String(address).replace(HOSTS, url), init),
  });

const orders = new trading.OrdersApi(new trading.Configuration(at(keys.secret)));
const positions = new trading.PositionsApi(new trading.Configuration(at(keys.secret)));
const crypto = new marketData.CryptoApi(new marketData.Configuration(at(keys.secret)));
const one = { loc: "us", symbols: BTC };

const place = (wish) =>
  orders.postOrder({ postOrderRequest: { symbol: BTC, side: "buy", timeInForce: "gtc", ...wish } });

const settled = (order, status) =>
  until(async () => {
    const now = await orders.getOrderByOrderID({ orderId: order.id });
    return now.status === status && now;
  }, `${order.clientOrderId} is not ${status}`);

const words = (error) => error.message;

run(async () => {
  await look();
  const { stream, heard } = await listen();
  await trade();
  const isFill = (update) => update.event === "fill" && update.order.clientOrderId === "market";
  await until(() => heard.some(isFill), "the fill was not heard");
  tell("updates", heard.map((update) => [update.event, update.order.clientOrderId]));
  await leave();
  await wait(stream);
  await watch();
  await refuse();
});

// The acknowledgment of the subscription tells when it listens.
async function listen() {
  const heard = [];
  const stream = new streaming.TradingStream(streamed(keys.secret, "/stream"));
  let listening = false;
  stream.on("subscription", () => (listening = true));
  stream.onTradeUpdate((update) => heard.push(update));
  stream.onConnect(() => stream.subscribeTradeUpdates());
  stream.connect();
  await until(() => listening, "the subscription was not acknowledged");
  return { stream, heard };
}

async function look() {
  const config = new trading.Configuration(at(keys.secret));
  const account = await new trading.AccountsApi(config).getAccount();
  tell("account", { cash: account.cash, status: account.status });
  tell("clock", (await new trading.ClockApi(config).legacyClock()).isOpen);
  const assets = new trading.AssetsApi(config);
  tell("assets", (await assets.getV2Assets({ assetClass: "crypto" })).map((asset) => asset.symbol));
  tell("asset", (await assets.getV2AssetsSymbolOrAssetId({ symbolOrAssetId: BTC })).symbol);
  const asked = { ...one, timeframe: "1Min", start: new Date(day), limit: 100 };
  const bars = (await crypto.cryptoBars(asked)).bars[BTC];
  tell("bars", [bars.length, bars[0].c]);
  const quote = (await crypto.cryptoLatestQuotes(one)).quotes[BTC];
  tell("quote", [quote.bp, quote.ap]);
  tell("bar", (await crypto.cryptoLatestBars(one)).bars[BTC].c);
  const book = (await crypto.cryptoLatestOrderbooks(one)).orderbooks[BTC];
  tell("orderbook", [book.b[0].p, book.a[0].p]);
}

async function trade() {
  const market = await place({ qty: "0.01", type: "market", clientOrderId: "market" });
  const done = await settled(market, "filled");
  tell("market", [done.filledQty, done.filledAvgPrice]);
  const worth = await place({ notional: "50.25", type: "market", clientOrderId: "worth" });
  tell("notional", (await settled(worth, "filled")).notional);
  const limit = { qty: "0.001", type: "limit", limitPrice: "15000", clientOrderId: "limit" };
  const resting = await settled(await place(limit), "new");
  tell("limit", [resting.qty, resting.limitPrice]);
  const prices = { stopPrice: "40000", limitPrice: "40100" };
  const stop = await place({ qty: "0.001", type: "stop_limit", clientOrderId: "stop", ...prices });
  tell("stop_limit", (await settled(stop, "new")).stopPrice);
  tell("by_client_id", (await orders.getOrderByClientOrderId({ clientOrderId: "limit" })).id === resting.id);
  tell("open", (await orders.getAllOrders()).map((order) => order.clientOrderId));
  tell("all", (await orders.getAllOrders({ status: "all", symbols: BTC, nested: true })).length);
  tell("taken", await refusal(() => place(limit), words));
  const patch = { orderId: resting.id, patchOrderRequest: { limitPrice: "15500" } };
  const replaced = await orders.patchOrderByOrderId(patch);
  tell("replace", [replaced.replaces === resting.id, (await settled(replaced, "new")).limitPrice]);
  await orders.deleteOrderByOrderID({ orderId: replaced.id });
  tell("cancel", (await settled(replaced, "canceled")).filledQty);
  await orders.deleteAllOrders();
  tell("cancel_all", await until(async () => !(await orders.getAllOrders()).length, "orders are open"));
}

async function leave() {
  const [position] = await positions.getAllOpenPositions();
  tell("positions", [position.symbol, position.qty]);
  const named = { symbolOrAssetId: "BTCUSD" };
  tell("position", (await positions.getOpenPosition(named)).qtyAvailable);
  tell("too_much", await refusal(() => place({ side: "sell", qty: "0.02", type: "market" }), words));
  const half = await positions.deleteOpenPosition({ ...named, percentage: 50 });
  tell("close", (await settled(half, "filled")).filledQty);
  await positions.deleteAllOpenPositions({ cancelOrders: true });
  const left = async () => !(await positions.getAllOpenPositions()).length;
  tell("close_all", await until(left, "it is still held"));
  const config = new trading.Configuration(at(keys.secret));
  const fills = { activityType: "FILL" };
  const done = await new trading.AccountActivitiesApi(config).getAccountActivitiesByActivityType(fills);
  tell("fills", done.map((fill) => fill.qty));
  const history = new trading.PortfolioHistoryApi(config);
  tell("history", (await history.getAccountPortfolioHistory({ period: "1D" })).equity);
  tell("trade", (await crypto.cryptoLatestTrades(one)).trades[BTC].p);
  tell("snapshot", (await crypto.cryptoSnapshots(one)).snapshots[BTC].latestQuote.bp);
}

// The SDK's own way to place an order and see it end.
async function wait(stream) {
  const wish = { symbol: BTC, side: "buy", type: "market", timeInForce: "gtc", qty: "0.001" };
  const done = await facade().trading.submitAndWait(wish, { stream });
  tell("submit_and_wait", [done.status, done.filledQty]);
  stream.disconnect();
}

async function watch() {
  const seen = { quotes: [], bars: [] };
  const stream = new streaming.CryptoDataStream(streamed(keys.secret, "/v1beta3/crypto/us"));
  stream.onQuote((quote) => seen.quotes.push(quote.askPrice));
  stream.onBar((bar) => seen.bars.push(bar.close));
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
  const stranger = new trading.AccountsApi(new trading.Configuration(at(keys.wrong)));
  tell("wrong_keys", await refusal(() => stranger.getAccount(), words));
  for (const [step, stream] of [
    ["wrong_stream_keys", new streaming.CryptoDataStream(streamed(keys.wrong, "/v1beta3/crypto/us"))],
    ["wrong_trading_keys", new streaming.TradingStream(streamed(keys.wrong, "/stream"))],
  ]) {
    const said = [];
    stream.onError((error) => said.push(error));
    stream.connect();
    const refused = (words) => words.includes("auth failed");
    tell(step, await until(() => said.find(refused), "the stream took wrong keys"));
  }
}
