'use strict';
// node -e <this> -- <Ghost's folder> <a database>: looks whether a restored database is sound, and what is in it.
const { createRequire } = require('node:module');

const [app, file] = process.argv.slice(1);
const Database = createRequire(`${app}/index.js`)('better-sqlite3');
const database = new Database(file, { readonly: true, fileMustExist: true });
const found = database.pragma('integrity_check').map((row) => row.integrity_check);
const sound = found.length === 1 && found[0] === 'ok';
const count = (table) => database.prepare(`SELECT count(*) AS n FROM ${table}`).get().n;
const answer = sound
  ? { sound, posts: count('posts'), users: count('users') }
  : { sound, posts: 0, users: 0, found: found.slice(0, 5) };
process.stdout.write(JSON.stringify(answer));
