"use strict";
/* The picture: which pixel of the mammogram is seen where, in which gray, and what is marked on it. Knows no controls.
   Screen pixels are computed one by one from the mammogram, so that its size does not matter. */

const RAMP = { weak: [255, 214, 0], strong: [255, 48, 32] };

/** The mammogram at half the size, again and again, so that it can be seen small without speckles. */
function halved(level) {
  const { pixels, width, height } = level;
  const w = width >> 1, h = height >> 1;
  const out = new pixels.constructor(w * h);
  for (let y = 0; y < h; y++) {
    let above = 2 * y * width, below = above + width;
    for (let x = 0; x < w; x++, above += 2, below += 2) {
      out[y * w + x] = (pixels[above] + pixels[above + 1] + pixels[below] + pixels[below + 1] + 2) >> 2;
    }
  }
  return { pixels: out, width: w, height: h };
}

/** The connected parts of a map at or above a value: the part of each pixel, from 1, and each part's box and peak. */
function findParts(map, width, height, least) {
  const part = new Int32Array(map.length);
  const parts = [];
  const stack = [];
  for (let start = 0; start < map.length; start++) {
    if (map[start] < least || part[start]) continue;
    const number = parts.length + 1;
    const one = { number, top: height, left: width, bottom: 0, right: 0, peak: 0, row: 0, col: 0 };
    part[start] = number;
    stack.push(start);
    while (stack.length) {
      const at = stack.pop();
      const y = (at / width) | 0, x = at - y * width;
      if (y < one.top) one.top = y;
      if (y >= one.bottom) one.bottom = y + 1;
      if (x < one.left) one.left = x;
      if (x >= one.right) one.right = x + 1;
      if (map[at] > one.peak) one.peak = map[at];
      if (x > 0 && !part[at - 1] && map[at - 1] >= least) { part[at - 1] = number; stack.push(at - 1); }
      if (x + 1 < width && !part[at + 1] && map[at + 1] >= least) { part[at + 1] = number; stack.push(at + 1); }
      if (y > 0 && !part[at - width] && map[at - width] >= least) { part[at - width] = number; stack.push(at - width); }
      if (y + 1 < height && !part[at + width] && map[at + width] >= least) {
        part[at + width] = number; stack.push(at + width);
      }
    }
    parts.push(one);
  }
  parts.sort((a, b) => b.peak - a.peak || a.top - b.top || a.left - b.left);
  return { part, parts };
}

class View {
  constructor(image) {
    Object.assign(this, image);  // width, height, pixels, mapWidth, mapHeight, map, activation
    this.levels = [image];
    while (Math.min(this.levels.at(-1).width, this.levels.at(-1).height) > 128) {
      this.levels.push(halved(this.levels.at(-1)));
    }
    this.white = image.pixels instanceof Uint8Array ? 255 : 65535;
    this.resetGray();
    this.invert = false;
    this.showMarks = true;
    this.showActivation = false;
    this.x = 0; this.y = 0; this.scale = 1;  // the screen's pixel (0, 0), and screen pixels per image pixel
    this.setThreshold(0.5);
  }

  /** Black and white at the darkest and the brightest 0.1 % of what is not background. */
  resetGray() {
    const counts = new Float64Array(1024);
    const { pixels } = this.levels[Math.min(2, this.levels.length - 1)];
    let total = 0;
    for (let i = 0; i < pixels.length; i++) {
      const bin = Math.min(1023, Math.floor(pixels[i] / this.white * 1024));
      if (bin > 0) { counts[bin]++; total++; }
    }
    let high = 1023, left = total * 0.001;
    while (high > 1 && (left -= counts[high]) > 0) high--;
    this.low = 0; this.high = Math.max(0.05, (high + 1) / 1024);
  }

  setThreshold(threshold) {
    this.threshold = threshold;
    this.least = Math.max(1, Math.ceil(threshold * 65535 - 0.5));
    const found = findParts(this.map, this.mapWidth, this.mapHeight, this.least);
    this.part = found.part;
    const down = this.height / this.mapHeight, across = this.width / this.mapWidth;
    this.marks = found.parts.map(one => ({
      number: one.number, probability: one.peak / 65535,
      top: one.top * down, left: one.left * across, bottom: one.bottom * down, right: one.right * across,
    }));
  }

  fit(width, height) {
    this.scale = Math.min(width / this.width, height / this.height);
    this.x = (this.width - width / this.scale) / 2;
    this.y = (this.height - height / this.scale) / 2;
  }

  /** Zooms, with the screen's point (px, py) at rest. */
  zoom(factor, px, py) {
    const scale = Math.min(16, Math.max(0.02, this.scale * factor));
    this.x += px / this.scale - px / scale;
    this.y += py / this.scale - py / scale;
    this.scale = scale;
  }

  lookUp() {
    const table = new Uint8ClampedArray(this.white + 1);
    const low = this.low * this.white, range = Math.max(1, (this.high - this.low) * this.white);
    for (let i = 0; i <= this.white; i++) {
      const gray = Math.round((i - low) / range * 255);
      table[i] = this.invert ? 255 - Math.min(255, Math.max(0, gray)) : gray;
    }
    return table;
  }

  /** The picture (width, height) as ImageData. */
  render(width, height) {
    const data = new ImageData(width, height), out = data.data;
    const table = this.lookUp();
    let number = 0;
    while (number + 1 < this.levels.length && this.scale * 2 ** (number + 1) <= 1) number++;
    const level = this.levels[number];
    const cols = new Int32Array(width), mapCols = new Int32Array(width);
    for (let x = 0; x < width; x++) {
      const at = this.x + (x + 0.5) / this.scale;
      const inside = at >= 0 && at < this.width;
      cols[x] = inside ? Math.min(level.width - 1, Math.floor(at * level.width / this.width)) : -1;
      mapCols[x] = inside ? Math.min(this.mapWidth - 1, Math.floor(at * this.mapWidth / this.width)) : -1;
    }
    const line = Math.max(1, Math.round(Math.min(width, height) / 400));
    const parts = new Int32Array(width * height);
    for (let y = 0; y < height; y++) {
      const at = this.y + (y + 0.5) / this.scale;
      if (at < 0 || at >= this.height) continue;
      const row = Math.min(level.height - 1, Math.floor(at * level.height / this.height)) * level.width;
      const mapRow = Math.min(this.mapHeight - 1, Math.floor(at * this.mapHeight / this.height)) * this.mapWidth;
      for (let x = 0; x < width; x++) {
        if (cols[x] < 0) continue;
        const place = y * width + x, to = 4 * place, from = mapRow + mapCols[x];
        const gray = table[level.pixels[row + cols[x]]];
        let r = gray, g = gray, b = gray;
        if (this.showActivation && this.activation) {
          const heat = this.activation[from] / 255;
          const opacity = 0.45 * heat;
          r += (255 - r) * opacity; g += (150 * (1 - heat) - g) * opacity; b += (220 * (1 - heat) - b) * opacity;
        }
        out[to] = r; out[to + 1] = g; out[to + 2] = b; out[to + 3] = 255;
        parts[place] = this.part[from];
      }
    }
    if (this.showMarks) this.drawMarks(out, parts, width, height, line);
    return data;
  }

  /** Outlines, which leave the pixels inside as they are; the more probable, the redder. */
  drawMarks(out, parts, width, height, line) {
    const colours = [];
    for (const mark of this.marks) {
      const strength = Math.min(1, (mark.probability - this.threshold) / Math.max(1e-6, 1 - this.threshold));
      colours[mark.number] = RAMP.weak.map((low, i) => low + strength * (RAMP.strong[i] - low));
    }
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const place = y * width + x, part = parts[place];
        if (!part) continue;
        const isEdge = x < line || parts[place - line] !== part || x + line >= width || parts[place + line] !== part ||
          y < line || parts[place - line * width] !== part || y + line >= height || parts[place + line * width] !== part;
        if (!isEdge) continue;
        [out[4 * place], out[4 * place + 1], out[4 * place + 2]] = colours[part];
      }
    }
  }
}
