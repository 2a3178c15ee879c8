// The turns: which are shown, which one sounds, and how the keyboard goes through them.
class Conversation {
  constructor(list) {
    this.turns = list ? [...list.querySelectorAll(".turn")] : [];
    this.now = null;
    this.sentence = null;
    this.buttons = this.turns.map((turn) => turn.querySelector("button.hear")).filter(Boolean);
    this.buttons.forEach((button, i) => (button.tabIndex = i ? -1 : 0)); // one tab stop; arrows go on from there
  }

  // Mark what sounds at a moment; returns its number, or null.
  mark(seconds, playing) {
    const within = (node) => seconds >= Number(node.dataset.start) && seconds < Number(node.dataset.end);
    if (!playing || !this.now || !within(this.now)) {
      const sounding = playing ? this.turns.filter((turn) => turn.dataset.start && within(turn)) : [];
      const turn = sounding.length ? sounding[sounding.length - 1] : null;
      if (turn !== this.now) {
        if (this.now) this.now.classList.remove("now");
        if (turn) turn.classList.add("now");
        this.now = turn;
      }
    }
    const sentence = this.now ? [...this.now.querySelectorAll(".s")].find(within) || null : null;
    if (sentence !== this.sentence) {
      if (this.sentence) this.sentence.classList.remove("now");
      if (sentence) sentence.classList.add("now");
      this.sentence = sentence;
    }
    return this.now ? Number(this.now.id.slice(5)) : null;
  }

  filter(who, words) {
    let shown = 0;
    for (const turn of this.turns) {
      const fits = (!who || turn.classList.contains(who)) && (!words || turn.textContent.toLowerCase().includes(words));
      turn.hidden = !fits;
      shown += fits;
    }
    return shown;
  }

  // Up and down: from turn to turn; left and right: from sentence to sentence. Returns whether the key was one of ours.
  key(event) {
    const turn = event.target.closest(".turn");
    if (!turn) return false; // elsewhere the arrows scroll, as everywhere
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      return this.step(turn, event.key === "ArrowDown" ? 1 : -1);
    }
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return false;
    const stops = [turn.querySelector("button.hear"), ...turn.querySelectorAll(".s")].filter(Boolean);
    const next = stops[stops.indexOf(event.target) + (event.key === "ArrowRight" ? 1 : -1)];
    if (next) next.focus();
    return true;
  }

  step(turn, by) {
    const open = this.buttons.filter((button) => !button.closest(".turn").hidden);
    if (!open.length) return false;
    // From a turn that cannot be played: the nearest that can.
    const after = (button) => turn.compareDocumentPosition(button) & Node.DOCUMENT_POSITION_FOLLOWING && !turn.contains(button);
    const behind = open.findIndex(after);
    const next = by > 0 ? open[behind] : open.filter((button) => !after(button) && !turn.contains(button)).pop();
    if (!next) return true;
    for (const button of this.buttons) button.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    next.scrollIntoView({ block: "nearest" });
    return true;
  }
}
