// An analyzer in the shape of the Node reference's mocks: Express with express.json(), whose bodies have 100 kB at
// most; POST /logs is answered after a few milliseconds, GET /health at once. Express itself is not needed for that.
//
//     node mock.js FILE      prints its port; FILE gets a line for each packet: number of its messages, its id
'use strict';
const http = require('http');
const fs = require('fs');
const LIMIT = 100 * 1024;

const answer = (response, status, body) => {
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'X-Powered-By': 'Express' });
  response.end(JSON.stringify(body));
};

const server = http.createServer((request, response) => {
  if (request.method === 'GET') return answer(response, 200, { status: 'healthy' });
  if (Number(request.headers['content-length']) > LIMIT) {
    // As body-parser: the answer comes before the body was read, which is thrown away.
    request.resume();
    return answer(response, 413, { error: 'request entity too large' });
  }
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    const packet = JSON.parse(Buffer.concat(pieces).toString());
    if (!Array.isArray(packet.messages)) return answer(response, 400, { error: 'Invalid packet' });
    fs.appendFileSync(process.argv[2], packet.messages.length + ' ' + packet.id + '\n');
    setTimeout(() => answer(response, 200, { success: true, processed: packet.messages.length }), 5);
  });
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
