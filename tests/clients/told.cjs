// What the JavaScript clients' scripts share: telling what a step saw, and waiting. See told.py.
const url = process.argv[2];

// Each version is installed in a folder of its own, in which its script is started.
const sdk = () => require(require.resolve("@alpacahq/alpaca-trade-api", { paths: [process.cwd()] }));

const tell = (step, value) => console.log(JSON.stringify({ step, value: value ?? null }));

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function until(condition, what) {
  const deadline = Date.now() + 20_000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(what);
    await pause(100);
  }
}

async function refusal(work, words) {
  try {
    await work();
  } catch (error) {
    return words(error);
  }
  throw new Error("it was not refused");
}

async function run(main) {
  try {
    await main();
    tell("end");
    process.exit(0);
  } catch (error) {
    console.error(error);
    process.exit(1);
  }
}

module.exports = {
  url,
  socket: url.replace("http", "ws"),
  keys: { key: "PAPER", secret: "paper-secret", wrong: "not-the-secret" },
  day: "2023-03-09T00:00:00Z",
  sdk,
  tell,
  until,
  refusal,
  run,
};
