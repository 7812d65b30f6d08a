// @fluent-org/logger as a server. Arguments: host, port, key or "". Its record: "got NUMBER" for each entry, before its ack.
const { FluentServer } = require("@fluent-org/logger");

const [host, port, sharedKey] = process.argv.slice(2);
const security = sharedKey ? { serverHostname: "server", sharedKey } : undefined;
const server = new FluentServer({ security, listenOptions: { host, port: Number(port) } });
server.on("entry", (tag, time, record) => {
  const mark = /#weir:(\d{12})/.exec(record.message);
  const raw = Buffer.isBuffer(record.raw) || record.raw instanceof Uint8Array;
  console.log(`got ${mark ? Number(mark[1]) : "?"} ${tag} ${raw ? "binary" : typeof record.raw}`);
});
server.listen().then(() => console.log("listens"));
