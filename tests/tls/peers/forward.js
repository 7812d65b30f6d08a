// @fluent-org/logger over TLS, with acks. Arguments: port, messages, CA, and certificate and key or nothing.
const fs = require("fs");
const { FluentClient } = require("@fluent-org/logger");

const [port, count, ca, cert, key] = process.argv.slice(2);
const shown = cert ? { cert: fs.readFileSync(cert), key: fs.readFileSync(key) } : {};
const client = new FluentClient("node", {
  eventMode: "PackedForward",
  socket: { host: "localhost", port: Number(port), timeout: 5000, tls: { ca: fs.readFileSync(ca), servername: "localhost", ...shown } },
  ack: { ackTimeout: 30000 },
});
client.socketOn("error", (error) => console.error(error.message));

(async () => {
  for (let from = 0; from < Number(count); from += 500) {
    const batch = [];
    for (let number = from; number < Math.min(from + 500, Number(count)); number++) {
      batch.push(client.emit("events", { message: `message ${number}` }));
    }
    await Promise.all(batch);
  }
  await client.disconnect();
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
