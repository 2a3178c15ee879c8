// Draws the stretch of the session around the playhead: above the user, below the assistant, between them the turns.
const TIMES = 13; // a strip for the times
const LANE = 26; // two bars of turns with their numbers
const FIRST_STRETCH_S = 60;
const WHOLE_S = 90; // so much is shown at once
const SHORTEST_STRETCH_S = 2;
const TIME_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

class Waveform {
  constructor(canvas, about, peaks) {
    this.canvas = canvas;
    this.about = about;
    this.count = peaks.length / 2;
    this.sides = [peaks.subarray(0, this.count), peaks.subarray(this.count)];
    this.stretch = about.seconds <= WHOLE_S ? about.seconds : FIRST_STRETCH_S;
    this.from = 0;
    this.readColours();
  }

  readColours() {
    const of = (name, place) => {
      const probe = element("span");
      probe.style.color = "var(--" + name + ")";
      place.append(probe);
      const colour = getComputedStyle(probe).color;
      probe.remove();
      return colour;
    };
    this.colours = {};
    for (const name of ["user", "assistant", "soft", "rule", "bad", "ink", "now"]) this.colours[name] = of(name, document.body);
  }

  zoom(factor) {
    const middle = this.from + this.stretch / 2;
    this.stretch = Math.max(Math.min(SHORTEST_STRETCH_S, this.about.seconds), Math.min(this.about.seconds, this.stretch * factor));
    this.look(middle - this.stretch / 2);
  }

  look(from) {
    this.from = Math.max(0, Math.min(from, this.about.seconds - this.stretch));
  }

  // Keep a moment in sight.
  follow(seconds) {
    if (seconds < this.from || seconds > this.from + this.stretch * 0.95) this.look(seconds - this.stretch * 0.1);
  }

  secondsAt(x) {
    const box = this.canvas.getBoundingClientRect();
    return this.from + ((x - box.left) / box.width) * this.stretch;
  }

  draw(position, playingTurn) {
    const scale = window.devicePixelRatio || 1;
    const width = this.canvas.clientWidth;
    const height = this.canvas.clientHeight;
    if (!width || !height) return;
    if (this.canvas.width !== Math.round(width * scale)) this.canvas.width = Math.round(width * scale);
    if (this.canvas.height !== Math.round(height * scale)) this.canvas.height = Math.round(height * scale);
    const pen = this.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    const x = (seconds) => ((seconds - this.from) / this.stretch) * width;
    this.drawTimes(pen, x, height);
    this.drawTurns(pen, x, height, playingTurn);
    this.drawGaps(pen, x, height);
    const half = (height - TIMES - LANE) / 4;
    this.drawSide(pen, 0, width, TIMES + half, half - 1);
    this.drawSide(pen, 1, width, height - half, half - 1);
    pen.fillStyle = this.colours.ink;
    pen.fillRect(Math.round(x(position)) - 0.75, 0, 1.5, height);
  }

  drawSide(pen, side, width, middle, room) {
    const peaks = this.sides[side];
    pen.fillStyle = side ? this.colours.assistant : this.colours.user;
    const perPixel = this.stretch / this.about.peakS / width;
    const first = this.from / this.about.peakS;
    for (let px = 0; px < width; px++) {
      const begin = Math.floor(first + px * perPixel);
      const end = Math.min(this.count, Math.max(begin + 1, Math.floor(first + (px + 1) * perPixel)));
      let top = 0;
      for (let i = begin; i < end; i++) if (peaks[i] > top) top = peaks[i];
      const size = Math.max(0.5, (top / 255) * room);
      pen.fillRect(px, middle - size, 1, 2 * size);
    }
  }

  drawTimes(pen, x, height) {
    const step = TIME_STEPS.find((s) => this.stretch / s <= 8) || this.stretch / 4;
    pen.font = "10px system-ui, sans-serif";
    pen.textBaseline = "alphabetic";
    for (let at = Math.ceil(this.from / step) * step; at <= this.from + this.stretch; at += step) {
      pen.fillStyle = this.colours.rule;
      pen.fillRect(Math.round(x(at)), 0, 1, height);
      pen.fillStyle = this.colours.soft;
      if (at > 0) pen.fillText(clockText(at), x(at) + 4, 9);
    }
  }

  drawTurns(pen, x, height, playingTurn) {
    const top = TIMES + (height - TIMES - LANE) / 2;
    const middle = top + LANE / 2;
    pen.font = "10px system-ui, sans-serif";
    pen.textBaseline = "middle";
    for (const [n, assistant, start, end, cut] of this.about.turns) {
      if (end < this.from || start > this.from + this.stretch) continue;
      const left = Math.max(x(start), -2);
      const width = Math.max(2, Math.min(x(end), this.canvas.clientWidth + 2) - left);
      const bar = assistant ? middle : top;
      const sounds = n === playingTurn;
      if (sounds) {
        pen.fillStyle = this.colours.now;
        pen.fillRect(left, assistant ? middle : TIMES, width, height - middle);
      }
      pen.fillStyle = assistant ? this.colours.assistant : this.colours.user;
      pen.globalAlpha = sounds ? 0.55 : 0.25;
      pen.fillRect(left, bar + 1, width - 1, LANE / 2 - 2);
      pen.globalAlpha = 1;
      pen.fillStyle = this.colours.ink;
      if (width > 20) pen.fillText(String(n), Math.max(left, 0) + 4, bar + LANE / 4 + 0.5);
      if (cut) {
        pen.fillStyle = this.colours.bad;
        pen.fillRect(left + width - 2, bar, 2, height - bar);
      }
    }
  }

  drawGaps(pen, x, height) {
    pen.fillStyle = this.colours.bad;
    pen.globalAlpha = 0.18;
    for (const [start, end] of this.about.gaps) pen.fillRect(x(start), 0, Math.max(1, x(end) - x(start)), height);
    pen.globalAlpha = 1;
    for (const [start] of this.about.gaps) pen.fillRect(x(start) - 0.5, 0, 1, height);
  }
}
