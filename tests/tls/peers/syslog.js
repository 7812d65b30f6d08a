// Node's tls, octet-counted syslog. Arguments: port, messages, CA, and certificate and key or nothing.
const fs = require("fs");
const tls = require("tls");

const [port, count, ca, cert, key] = process.argv.slice(2);
const shown = cert ? { cert: fs.readFileSync(cert), key: fs.readFileSync(key) } : {};
const socket = tls.connect({ host: "127.0.0.1", port: Number(port), servername: "localhost", ca: fs.readFileSync(ca), ...shown });
socket.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
socket.on("secureConnect", async () => {
  for (let number = 0; number < Number(count); number++) {
    const line = `<13>1 2026-11-30T10:00:00Z host app - - - message ${number}`;
    if (!socket.write(`${line.length} ${line}`)) await new Promise((drained) => socket.once("drain", drained));
  }
  socket.end();
});
socket.on("close", () => process.exit(0));
socket.resume();
