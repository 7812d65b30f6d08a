// npm's lumberjack-client, which compresses each window and reads no ACK.
//
//     node lumberjack.js PORT COUNT
const Client = require('lumberjack-client');

const [port, count] = process.argv.slice(2).map(Number);
const client = new Client({ host: '127.0.0.1', port });
for (let number = 0; number < count; number += 1) {
  client.log({ message: `message ${String(number).padStart(6, '0')}`, level: 'error' });
}
// It waits for nothing: what it has written is with the kernel, and it would keep the process.
setTimeout(() => process.exit(0), 1000);
