'use strict';
// node door.cjs <path> <a file> <another>: posts what is in the first to the operator's door of the Ghost in this
// instance, and writes the answer into the second: its status in a line, then its body.
//
// Whoever operates the instance from outside can put and read files and run programs, but speak to no socket. Both files
// may hold secrets: the first is gone before anything is sent, the second is for its owner only.

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const LARGEST_ANSWER = 16 << 20;
const PATIENCE = 60_000;

const [route, from, to] = process.argv.slice(2);
const body = fs.readFileSync(from);
fs.unlinkSync(from);

const request = http.request({
  socketPath: path.join(__dirname, 'run', 'operator.sock'),
  method: 'POST',
  path: route,
  headers: { host: 'ghost', 'content-type': 'application/json', 'content-length': body.length },
  signal: AbortSignal.timeout(PATIENCE),
});
request.on('error', giveUp);
request.on('response', (response) => {
  const chunks = [];
  let size = 0;
  response.on('error', giveUp);
  response.on('data', (chunk) => {
    size += chunk.length;
    if (size > LARGEST_ANSWER) response.destroy(new Error('the answer is too long'));
    chunks.push(chunk);
  });
  response.on('end', () => {
    fs.writeFileSync(to, Buffer.concat([Buffer.from(`${response.statusCode}\n`), ...chunks]), { flag: 'wx', mode: 0o600 });
  });
});
request.end(body);

function giveUp(error) {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}
