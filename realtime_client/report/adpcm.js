// IMA ADPCM, mono, as WAVE files hold it (tag 0x11): blocks that begin with a sample and a step, then four bits a sample.
const STEPS = [
  7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107, 118,
  130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963, 1060,
  1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894, 6484,
  7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794, 32767,
];
const STEP_CHANGES = [-1, -1, -1, -1, 2, 4, 6, 8];

function decodeAdpcm(bytes, blockBytes, frames) {
  const out = new Float32Array(frames);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (let block = 0; block + 4 <= bytes.length && at < frames; block += blockBytes) {
    let sample = view.getInt16(block, true);
    let index = Math.min(88, bytes[block + 2]);
    out[at++] = sample / 32768;
    const end = Math.min(bytes.length, block + blockBytes);
    for (let i = block + 4; i < end; i++) {
      for (let shift = 0; shift <= 4 && at < frames; shift += 4) {
        const code = (bytes[i] >> shift) & 15;
        const step = STEPS[index];
        let change = step >> 3;
        if (code & 4) change += step;
        if (code & 2) change += step >> 1;
        if (code & 1) change += step >> 2;
        sample = Math.max(-32768, Math.min(32767, code & 8 ? sample - change : sample + change));
        index = Math.max(0, Math.min(88, index + STEP_CHANGES[code & 7]));
        out[at++] = sample / 32768;
      }
    }
  }
  return out;
}
