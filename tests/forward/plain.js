// fluent-logger of Node, one message at a time, with acks. Arguments: host, port, messages.
const logger = require("fluent-logger").createFluentSender("node", {
  host: process.argv[2],
  port: Number(process.argv[3]),
  timeout: 3.0,
  requireAckResponse: true,
  eventMode: "Message",
});
logger.on("error", (error) => console.log(`failed ${error.message}`));

function send(number) {
  if (number === Number(process.argv[4])) return logger.end();
  const text = `#weir:${String(number).padStart(12, "0")}`;
  logger.emit("events", { message: text }, (error) => {
    console.log(error ? `failed ${error.message}` : `acked ${number}`);
    if (error) process.exit(1);
    send(number + 1);
  });
}
send(0);
