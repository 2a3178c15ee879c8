// Plays the clips of a session at their places. Clips are decoded when they are about to sound, and a few are kept.
const AHEAD_S = 8;
const KEPT_CLIPS = 24;
const START_S = 0.05; // between the click and the first sample, so that nothing starts late

class Player {
  constructor(about, changed) {
    this.about = about;
    this.changed = changed; // called when playing begins or ends
    this.playing = false;
    this.sides = [true, true];
    this.decoded = new Map();
    this.context = null;
    this.at = 0; // seconds, where it stands while it does not play
    this.until = about.seconds;
  }

  position() {
    if (!this.playing) return this.at;
    return Math.min(this.until, this.at + Math.max(0, this.context.currentTime - this.startedAt));
  }

  // Play from one second to another; to the end without the second.
  play(from, until) {
    this.halt();
    if (!this.open()) return;
    const end = this.about.seconds;
    this.at = Math.max(0, Math.min(from, end));
    if (until === undefined && this.at >= end - 0.01) this.at = 0;
    this.until = until === undefined ? end : Math.min(until, end);
    this.context.resume();
    this.startedAt = this.context.currentTime + START_S;
    this.sources = new Map();
    this.playing = true;
    this.schedule();
    this.timer = setInterval(() => this.schedule(), 250);
    this.changed();
  }

  stop() {
    const at = this.position();
    this.halt();
    this.at = at;
    this.changed();
  }

  toggle() {
    if (this.playing) this.stop();
    else this.play(this.at);
  }

  seek(seconds) {
    const to = Math.max(0, Math.min(seconds, this.about.seconds));
    if (this.playing) this.play(to);
    else this.at = to;
    this.changed();
  }

  hearSide(side, on) {
    this.sides[side] = on;
    if (this.gains) this.gains[side].gain.value = on ? 1 : 0;
  }

  open() {
    if (this.context) return true;
    const Context = window.AudioContext || window.webkitAudioContext;
    if (!Context) return false;
    // At the rate of the clips, so that they join without a seam.
    this.context = new Context({ sampleRate: this.about.rate });
    const merger = this.context.createChannelMerger(2);
    this.gains = [0, 1].map((side) => {
      const gain = this.context.createGain();
      gain.gain.value = this.sides[side] ? 1 : 0;
      gain.connect(merger, 0, side);
      return gain;
    });
    merger.connect(this.context.destination);
    return true;
  }

  halt() {
    clearInterval(this.timer);
    if (this.sources) for (const source of this.sources.values()) source.stop();
    this.sources = null;
    this.playing = false;
  }

  // Hand the clips that sound within the next seconds to the device.
  schedule() {
    const now = this.position();
    if (now >= this.until) {
      this.stop();
      return;
    }
    const rate = this.about.rate;
    this.about.clips.forEach(([side, start, frames], index) => {
      const begin = start / rate;
      const end = Math.min(this.until, begin + frames / rate);
      if (end <= now || begin >= now + AHEAD_S || begin >= this.until || this.sources.has(index)) return;
      const offset = Math.max(0, this.at - begin);
      if (end - begin - offset <= 0) return;
      const source = this.context.createBufferSource();
      source.buffer = this.clip(index);
      source.connect(this.gains[side]);
      source.start(this.startedAt + Math.max(0, begin - this.at), offset, end - begin - offset);
      this.sources.set(index, source);
    });
  }

  clip(index) {
    let buffer = this.decoded.get(index);
    if (!buffer) {
      const frames = this.about.clips[index][2];
      const bytes = bytesOf("clip-" + index) || new Uint8Array(0);
      buffer = this.context.createBuffer(1, frames, this.about.rate);
      buffer.copyToChannel(decodeAdpcm(bytes, this.about.blockBytes, frames), 0);
    }
    this.decoded.delete(index); // the newest last
    this.decoded.set(index, buffer);
    if (this.decoded.size > KEPT_CLIPS) this.decoded.delete(this.decoded.keys().next().value);
    return buffer;
  }
}
