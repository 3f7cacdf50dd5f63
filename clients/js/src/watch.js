// Notices a server of which nothing is heard. A paced session with idle frames hears of it 25 times a second, so
// silence means that the server hangs, or that the connection is dead: browsers notice neither.

// What has come but waits behind other work of the page counts: it is looked at once more after this.
const CONFIRM_MS = 150;

export class Watch {
  #limitsMs;
  #onLevel;
  #heardAt;
  #level = 0;
  #isDoubted = false;
  #timer;

  // `onLevel(n)` is called when nothing was heard for `limitsMs[n - 1]`, and with 0 when something is heard again.
  // The limits ascend.
  constructor(limitsMs, onLevel) {
    this.#limitsMs = limitsMs;
    this.#onLevel = onLevel;
  }

  // Begins to watch, from now on.
  start() {
    this.heard();
    this.#wait();
  }

  // Something was heard.
  heard() {
    this.#heardAt = performance.now();
    this.#isDoubted = false;
    if (this.#level > 0) {
      this.#level = 0;
      // The timer waits for the next limit, which is further away.
      this.#wait();
      this.#onLevel(0);
    }
  }

  // Watches no more.
  stop() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#level = 0;
  }

  #wait() {
    const limit = this.#limitsMs[this.#level] ?? this.#limitsMs.at(-1);
    const rest = this.#isDoubted ? CONFIRM_MS : Math.max(this.#heardAt + limit - performance.now(), 1);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), rest);
    // In Node the connection keeps the process alive, not this.
    this.#timer.unref?.();
  }

  #look() {
    const silentMs = performance.now() - this.#heardAt;
    if (this.#level < this.#limitsMs.length && silentMs >= this.#limitsMs[this.#level]) {
      if (this.#isDoubted || this.#level > 0) {
        this.#level += 1;
        this.#isDoubted = false;
        this.#onLevel(this.#level);
      } else {
        this.#isDoubted = true;
      }
    }
    // `onLevel` may have stopped it.
    if (this.#timer !== undefined) this.#wait();
  }
}
