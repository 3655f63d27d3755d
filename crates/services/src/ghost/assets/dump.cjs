'use strict';
// node -e <this> -- <Ghost's folder> <its database> <where to>: writes a consistent copy while Ghost runs.
//
// VACUUM INTO reads under one lock, so the copy is of one moment; what was deleted is not in it. Ghost's readers go on,
// its writers wait until it is done.
const fs = require('node:fs');
const { createRequire } = require('node:module');

const [app, from, to] = process.argv.slice(1);
const Database = createRequire(`${app}/index.js`)('better-sqlite3');
const beside = `${to}.new`;
if (fs.existsSync(beside)) fs.unlinkSync(beside); // left by a run that was cut short
const database = new Database(from, { readonly: true, fileMustExist: true, timeout: 60000 });
database.prepare('VACUUM INTO ?').run(beside);
database.close();
const copy = fs.openSync(beside, 'r');
fs.fsyncSync(copy);
fs.closeSync(copy);
fs.renameSync(beside, to);
