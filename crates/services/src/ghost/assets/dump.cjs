'use strict';
// node -e <this> -- <Ghost's folder> <its database> <where to>: writes a consistent copy while Ghost runs.
//
// A Ghost that wants to write while SQLite's lock is held stands still, for its readers too, and after five seconds its
// write fails. So all that takes long is done without the lock:
//
//  1. the file is copied as it is; what Ghost writes meanwhile tears this copy;
//  2. under the lock, the copy is compared with the file, and what differs is copied again: now it is of one moment;
//  3. VACUUM INTO makes the dump from the copy, without what was deleted.
const fs = require('node:fs');
const path = require('node:path');
const { createRequire } = require('node:module');

const CHUNK = 1 << 20;

const [app, from, to] = process.argv.slice(1);
const Database = createRequire(`${app}/index.js`)('better-sqlite3');
const torn = `${to}.torn`;
const beside = `${to}.new`;

/** Removes what is half done, of this run or of one that was cut short, with SQLite's own files beside it. */
const clean = () => {
  const [folder, dump] = [path.dirname(to), path.basename(to)];
  const half = fs.readdirSync(folder).filter((name) => name.startsWith(`${dump}.`));
  for (const name of half) fs.rmSync(path.join(folder, name));
};

/** What is in the file from there on, up to a chunk. */
const take = (file, chunk, at) => {
  let taken = 0;
  for (let some = 1; some > 0 && taken < CHUNK; taken += some) {
    some = fs.readSync(file, chunk, taken, CHUNK - taken, at + taken);
  }
  return chunk.subarray(0, taken);
};

const put = (file, bytes, at) => {
  for (let done = 0; done < bytes.length; ) done += fs.writeSync(file, bytes, done, bytes.length - done, at + done);
};

const [here, there] = [Buffer.allocUnsafe(CHUNK), Buffer.allocUnsafe(CHUNK)];
const agree = (source, copy) => {
  for (let at = 0; ; at += CHUNK) {
    const bytes = take(source, here, at);
    if (!bytes.equals(take(copy, there, at))) put(copy, bytes, at);
    if (bytes.length < CHUNK) return fs.ftruncateSync(copy, at + bytes.length);
  }
};

const sync = (name) => {
  const file = fs.openSync(name, 'r');
  fs.fsyncSync(file);
  fs.closeSync(file);
};

clean();
try {
  // Stays open to the end: closing it would give up every lock that this process has on the file, SQLite's too
  // (fcntl(2), "Record locks").
  const source = fs.openSync(from, 'r');
  const copy = fs.openSync(torn, 'wx+', 0o600);
  agree(source, copy);
  // Opened for writing, so that SQLite can undo first what a killed Ghost left half written.
  const live = new Database(from, { fileMustExist: true, timeout: 60000 });
  live.exec('BEGIN');
  live.prepare('SELECT count(*) FROM sqlite_schema').get(); // now it has the lock, and nobody writes into the file
  const wal = live.pragma('journal_mode', { simple: true }) === 'wal';
  if (!wal) agree(source, copy);
  live.exec('COMMIT');
  // With a write-ahead log the file is not all there is; but then readers and writers do not wait for each other.
  const still = wal ? live : new Database(torn, { readonly: true });
  still.prepare('VACUUM INTO ?').run(beside);
  still.close();
  live.close();
  sync(beside);
  fs.renameSync(beside, to);
  sync(path.dirname(to));
} finally {
  clean();
}
