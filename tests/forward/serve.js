// @fluent-org/logger as a server. Arguments: host, port, key or "". Its record: "got NUMBER" for each entry, before its ack:
// this server writes an ack first and hands its entries on then, so that a kill in between would lose them behind its own
// ack. What it writes to a connection leaves one turn later here.
const { Socket } = require("net");
const { FluentServer } = require("@fluent-org/logger");

const { write } = Socket.prototype;
Socket.prototype.write = function (...what) {
  if (this === process.stdout) return write.apply(this, what);
  setImmediate(() => write.apply(this, what));
  return true;
};

const [host, port, sharedKey] = process.argv.slice(2);
const security = sharedKey ? { serverHostname: "server", sharedKey } : undefined;
const server = new FluentServer({ security, listenOptions: { host, port: Number(port) } });
server.on("entry", (tag, time, record) => {
  const mark = /#weir:(\d{12})/.exec(record.message);
  const raw = Buffer.isBuffer(record.raw) || record.raw instanceof Uint8Array;
  console.log(`got ${mark ? Number(mark[1]) : "?"} ${tag} ${raw ? "binary" : typeof record.raw}`);
});
server.listen().then(() => console.log("listens"));
