// The watch on a clock of the test's own.

import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Watch } from "../src/watch.js";

// Runs `steps(watch, levels, wait)` in virtual time.
function run(steps) {
  mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  const real = performance.now;
  performance.now = () => now;
  try {
    const levels = [];
    const watch = new Watch([2000, 10_000], (level) => levels.push([now, level]));
    steps(watch, levels, (ms) => {
      for (const end = now + ms; now < end; ) {
        now += 10;
        mock.timers.tick(10);
      }
    });
    watch.stop();
  } finally {
    performance.now = real;
    mock.timers.reset();
  }
}

test("silence is told after 2 s and a moment, and again when it lasts", () => {
  run((watch, levels, wait) => {
    watch.start();
    for (let n = 0; n < 100; n++) {
      wait(40);
      watch.heard();
    }
    assert.deepEqual(levels, []);
    wait(12_000);
    assert.deepEqual(levels.map(([, level]) => level), [1, 2]);
    const [[first], [second]] = levels;
    assert.ok(first > 6000 && first <= 6200, `${first}`);
    assert.ok(second >= 14_000 && second <= 14_100, `${second}`);
  });
});

test("what is heard again is told at once", () => {
  run((watch, levels, wait) => {
    watch.start();
    wait(3000);
    watch.heard();
    assert.deepEqual(levels.map(([, level]) => level), [1, 0]);
    wait(1900);
    assert.equal(levels.length, 2);
    wait(400);
    assert.equal(levels.at(-1)[1], 1);
  });
});

test("what waited while the page was busy counts", () => {
  run((watch, levels, wait) => {
    watch.start();
    // The timer fires first after a long pause; the messages come right after it.
    wait(2010);
    watch.heard();
    wait(1900);
    assert.deepEqual(levels, []);
  });
});

test("nothing is told after its end", () => {
  run((watch, levels, wait) => {
    watch.start();
    wait(1000);
    watch.stop();
    wait(60_000);
    assert.deepEqual(levels, []);
  });
});
