// @fluent-org/logger, with acks. Arguments: host, port, mode, messages, key or "", user or "", password or "".
// Its record: "acked NUMBER" for each, "failed REASON".
const { FluentClient } = require("@fluent-org/logger");

const [host, port, eventMode, count, sharedKey, username, password] = process.argv.slice(2);
const security = sharedKey ? { clientHostname: "client", sharedKey, username, password } : undefined;
const client = new FluentClient("node", {
  eventMode,
  security,
  socket: { host, port: Number(port), timeout: 3000 },
  ack: { ackTimeout: 20000 },
});
client.socketOn("error", (error) => console.log(`failed ${error.message}`));

async function send(number) {
  const text = `#weir:${String(number).padStart(12, "0")}`;
  const levels = ["info", "warn", "error"];
  await client.emit("events", { message: text, level: levels[number % 3], raw: Buffer.from([255, number & 255]) });
  console.log(`acked ${number}`);
}

(async () => {
  for (let from = 0; from < Number(count); from += 20) {
    const batch = [];
    for (let number = from; number < Math.min(from + 20, Number(count)); number++) batch.push(send(number));
    await Promise.all(batch);
  }
  await client.disconnect();
  process.exit(0);
})().catch((error) => {
  console.log(`failed ${error.message}`);
  process.exit(1);
});
