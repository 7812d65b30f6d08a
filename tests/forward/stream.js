// @fluent-org/logger, with acks, without an end. Arguments: host, port, first number. A message that was not acked is sent
// again, as another attempt of the same number. Its record: "acked NUMBER", "failed REASON".
const { FluentClient } = require("@fluent-org/logger");

const [host, port, first] = process.argv.slice(2);
const client = new FluentClient("node", {
  eventMode: "PackedForward",
  socket: { host, port: Number(port), timeout: 3000, reconnect: { delay: 50, maxDelay: 100 } },
  ack: { ackTimeout: 5000 },
});
client.socketOn("error", (error) => console.log(`failed ${error.message}`));

async function send(number) {
  const text = `#weir:${String(number).padStart(12, "0")}`;
  for (;;) {
    try {
      await client.emit("events", { message: text, raw: Buffer.from([255, number & 255]) });
      return console.log(`acked ${number}`);
    } catch (error) {
      console.log(`failed ${error.message}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

(async () => {
  for (let from = Number(first); ; from += 20) {
    const batch = [];
    for (let number = from; number < from + 20; number++) batch.push(send(number));
    await Promise.all(batch);
  }
})();
