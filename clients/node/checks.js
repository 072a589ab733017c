'use strict';
// What the Node example clients share: where the broker is, fresh names, and one line per check.
const { isDeepStrictEqual, inspect } = require('node:util');

const TIMEOUT_MS = 20_000;

/** HOST:PORT from the first argument, else from the environment variable, else the usual local port. */
function address(variable, usual) {
  return process.argv[2] || process.env[variable] || usual;
}

let names = 0;
/** A name that no other run uses. */
function unique(prefix) {
  names += 1;
  return `${prefix}-${Date.now().toString(16)}${process.pid.toString(16)}-${names}`;
}

function same(what, got, want) {
  if (!isDeepStrictEqual(got, want)) {
    throw new Error(`${what}: got ${brief(got)}, want ${brief(want)}`);
  }
}

function brief(value) {
  return inspect(value, { breakLength: Infinity, maxArrayLength: 10, maxStringLength: 200 });
}

/** The value of the promise, or a failure after TIMEOUT_MS. */
function within(what, promise, ms = TIMEOUT_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Waits until `condition` holds; the event loop runs meanwhile. */
async function until(what, condition) {
  const deadline = Date.now() + TIMEOUT_MS;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${TIMEOUT_MS} ms`);
    await pause(20);
  }
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Passes if the promise is rejected and `matches` the error. */
async function refused(promise, matches) {
  let error;
  try {
    await within('refusal', promise);
  } catch (caught) {
    error = caught;
  }
  if (!error) throw new Error('accepted');
  if (!matches(error)) throw error;
}

/** Runs each [name, function] and ends the program with 0 or 1. */
async function run(checks) {
  let failed = 0;
  for (const [name, check] of checks) {
    try {
      await within(name, check(), 3 * TIMEOUT_MS);
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}: ${String(error && error.message).replaceAll('\n', ' ')}`);
      if (process.env.CLIENT_TRACE) console.log(error);
    }
  }
  process.exit(failed ? 1 : 0);
}

module.exports = { address, pause, refused, run, same, unique, until, within };
