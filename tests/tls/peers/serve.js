// @fluent-org/logger as a server over TLS, which writes a line for each entry. Arguments: port, CA, certificate, key.
const fs = require("fs");
const { FluentServer } = require("@fluent-org/logger");

const [port, ca, cert, key] = process.argv.slice(2);
const [caText, certText, keyText] = [ca, cert, key].map((path) => fs.readFileSync(path));
const server = new FluentServer({
  listenOptions: { host: "127.0.0.1", port: Number(port) },
  tlsOptions: { ca: caText, cert: certText, key: keyText, requestCert: true, rejectUnauthorized: true },
});
server.on("entry", () => console.log("got"));
server.listen();
