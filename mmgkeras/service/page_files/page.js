"use strict";
/* The controls: files in, keys, fingers and sliders to the view, pictures out. */

const at = id => document.getElementById(id);
const canvas = at("canvas"), context = canvas.getContext("2d");
let view = null, file = null, told = null, current = -1, asked = 0, drawing = false;

function paint() {
  drawing = false;
  if (view) context.putImageData(view.render(canvas.width, canvas.height), 0, 0);
}

function redraw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(paint);
}

/** Screen pixels per CSS pixel; at most 2, for each is computed. */
const density = () => Math.min(2, window.devicePixelRatio || 1);

function resize() {
  const box = at("stage").getBoundingClientRect();
  const width = Math.max(1, Math.round(box.width * density())), height = Math.max(1, Math.round(box.height * density()));
  if (canvas.width === width && canvas.height === height) return;
  const wasFitted = view && view.fitted;
  canvas.width = width; canvas.height = height;
  if (wasFitted) view.fit(width, height);
  paint();  // at once: the new size has wiped the canvas
}

/** An answer of /page/mark: JSON with its length before it, arrays behind it. */
function parse(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const described = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  let start = 4 + length;
  const take = (type, count) => {
    const array = new type(buffer, start, count);
    start += Math.ceil(array.byteLength / 8) * 8;
    return array;
  };
  const { width, height, seen_width: mapWidth, seen_height: mapHeight } = described;
  const pixels = take(described.bits === 8 ? Uint8Array : Uint16Array, width * height);
  const map = take(Uint16Array, mapWidth * mapHeight);
  const activation = described.has_activation ? take(Uint8Array, mapWidth * mapHeight) : null;
  return [described, { width, height, pixels, mapWidth, mapHeight, map, activation }];
}

function fail(message) {
  at("busy").hidden = true;
  at("error").textContent = message;
  at("error").hidden = false;
  at("drop").hidden = Boolean(view);
  resize();
}

/** Scores a file; what was said of the side and pixel size of another one says nothing of it. */
async function score(chosen, isAgain = false) {
  if (!chosen) return;
  if (!isAgain) at("laterality").value = at("spacing").value = "";
  const number = ++asked;
  file = chosen;
  at("error").hidden = true;
  at("drop").hidden = true;
  at("busy").textContent = `Scoring ${file.name} …`;
  at("busy").hidden = false;
  const query = new URLSearchParams({ name: file.name, laterality: at("laterality").value, spacing_mm: at("spacing").value });
  let answer;
  try {
    answer = await fetch(`/page/mark?${query}`, { method: "POST", body: file });
    if (number !== asked) return;
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      return fail(answer.status === 503 ? "The server is busy; try again." : `${file.name}: ${said.error || answer.status}`);
    }
    const [described, image] = parse(await answer.arrayBuffer());
    if (number === asked) show(described, image);
  } catch (error) {
    const isReadable = await chosen.slice(0, 1).arrayBuffer().then(() => true, () => false);  // a folder is not
    const said = isReadable ? "The server does not answer." : `${chosen.name}: cannot be read; drop one image file.`;
    if (number === asked) fail(answer ? `${chosen.name}: ${error.message}` : said);
  }
}

function show(described, image) {
  const keep = view;
  told = { ...described, name: file.name };
  view = new View(image);
  view.setThreshold(described.threshold);
  at("busy").hidden = true;
  at("controls").hidden = false;
  at("name").textContent = told.name;
  at("show-activation").disabled = !image.activation;
  if (keep) { view.showMarks = keep.showMarks; view.showActivation = keep.showActivation && Boolean(image.activation); view.invert = keep.invert; }
  const side = { L: "left", R: "right" }[described.laterality];
  const size = described.spacing_mm ? `${Number(described.spacing_mm.toPrecision(4))} mm a pixel` : "pixel size unknown";
  const notes = [
    `${described.width} × ${described.height}, ${described.bits} bits, ${size}` +
      (described.resampled_to_mm ? `, scored at ${described.resampled_to_mm} mm` : ""),
    `${side} breast by ${described.laterality_from}${described.hangs_mirrored ? ", hanging mirrored" : ""}`,
    `model ${described.model}`, ...described.notes,
  ];
  if (!described.spacing_mm && described.model_spacing_mm) {
    notes.push(`Its pixels are taken for ${described.model_spacing_mm} mm; where that is wrong, so are the marks.`);
  }
  at("notes").replaceChildren(...notes.map(note => Object.assign(document.createElement("li"), { textContent: note })));
  at("threshold").value = toSlider(described.threshold);
  resize();
  fit();
  grayToSliders();
  listMarks();
}

/* Near 0 and 1 a threshold needs finer steps: the slider moves along the log odds. */
const logOdds = p => Math.log(p / (1 - p));
const SPAN = logOdds(0.9999);
const toSlider = p => Math.round((Math.min(SPAN, Math.max(-SPAN, logOdds(p))) / SPAN + 1) * 500);
const fromSlider = value => 1 / (1 + Math.exp(-(value / 500 - 1) * SPAN));

/* At least three decimals, and two figures of what is lacking to 0 or 1, as in schema.py. */
function probabilityText(p) {
  const lacking = Math.min(p, 1 - p);
  return p.toFixed(Math.max(3, lacking > 0 ? 1 - Math.floor(Math.log10(lacking)) : 0));
}

function setThreshold(value) {
  at("threshold").value = value;
  view.setThreshold(fromSlider(Number(at("threshold").value)));
  listMarks();
  redraw();
}

function listMarks() {
  const { marks, threshold } = view;
  current = -1;
  at("threshold-value").textContent = probabilityText(threshold);
  at("count").textContent = marks.length === 1 ? "1 mark" : `${marks.length} marks`;
  at("marks").replaceChildren(...marks.slice(0, 200).map((mark, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${index + 1}.  probability ${probabilityText(mark.probability)}`;
    button.addEventListener("click", () => goTo(index));
    return document.createElement("li").appendChild(button).parentNode;
  }));
}

function goTo(index) {
  const { marks } = view;
  if (!marks.length) return;
  current = (index + marks.length) % marks.length;
  const mark = marks[current];
  const size = Math.max(mark.bottom - mark.top, mark.right - mark.left);
  view.scale = Math.min(4, Math.min(canvas.width, canvas.height) / (3 * size));
  view.x = (mark.left + mark.right) / 2 - canvas.width / 2 / view.scale;
  view.y = (mark.top + mark.bottom) / 2 - canvas.height / 2 / view.scale;
  view.fitted = false;
  [...at("marks").querySelectorAll("button")].forEach((button, number) => {
    button.setAttribute("aria-current", String(number === current));
    if (number === current) button.scrollIntoView({ block: "nearest" });
  });
  redraw();
}

function fit() { view.fit(canvas.width, canvas.height); view.fitted = true; redraw(); }
function zoom(factor, px = canvas.width / 2, py = canvas.height / 2) { view.zoom(factor, px, py); view.fitted = false; redraw(); }
function move(dx, dy) { view.x -= dx / view.scale; view.y -= dy / view.scale; view.fitted = false; redraw(); }
function native() { zoom(1 / view.scale); }

function grayToSliders() {
  at("level").value = Math.round((view.low + view.high) / 2 * 1000);
  at("window").value = Math.round((view.high - view.low) * 1000);
}

function setGray(level, width) {
  level = Math.min(1, Math.max(0, level)); width = Math.min(1, Math.max(0.01, width));
  view.low = level - width / 2; view.high = level + width / 2;
  grayToSliders();
  redraw();
}

const changeGray = (level, width) => setGray((view.low + view.high) / 2 + level, view.high - view.low + width);

function toggle(id, name) {
  if (at(id).disabled) return;
  view[name] = at(id).checked = !view[name];
  redraw();
}

/** The whole mammogram as it is shown, at native pixels where a canvas may be so large. */
async function save() {
  const scale = Math.min(1, Math.sqrt(16e6 / (view.width * view.height)));
  const strip = Math.max(24, Math.round(view.width * scale / 40));
  const picture = document.createElement("canvas");
  picture.width = Math.round(view.width * scale); picture.height = Math.round(view.height * scale) + strip;
  const kept = { x: view.x, y: view.y, scale: view.scale };
  Object.assign(view, { x: 0, y: 0, scale });
  const data = view.render(picture.width, picture.height - strip);
  Object.assign(view, kept);
  const brush = picture.getContext("2d");
  brush.fillStyle = "#000"; brush.fillRect(0, 0, picture.width, picture.height);
  brush.putImageData(data, 0, 0);
  brush.fillStyle = "#fff"; brush.font = `${Math.round(strip * 0.5)}px sans-serif`; brush.textBaseline = "middle";
  const text = `Research use only. Not for diagnosis. ${told.model}, marks from ${probabilityText(view.threshold)}`;
  brush.fillText(text, strip / 3, picture.height - strip / 2, picture.width - strip);
  const blob = await new Promise(done => picture.toBlob(done, "image/png"));
  const link = Object.assign(document.createElement("a"), {
    href: URL.createObjectURL(blob), download: `${told.name.replace(/\.[^.]*$/, "")}-marked.png`,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const KEYS = {
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "0": fit, "1": native,
  ArrowLeft: () => move(80, 0), ArrowRight: () => move(-80, 0), ArrowUp: () => move(0, 80), ArrowDown: () => move(0, -80),
  n: () => goTo(current + 1), p: () => goTo(current < 0 ? -1 : current - 1),
  "[": () => setThreshold(Number(at("threshold").value) + 20), "]": () => setThreshold(Number(at("threshold").value) - 20),
  m: () => toggle("show-marks", "showMarks"), a: () => toggle("show-activation", "showActivation"),
  i: () => toggle("invert", "invert"), r: () => { view.resetGray(); grayToSliders(); redraw(); },
  w: () => changeGray(0, -0.05), W: () => changeGray(0, 0.05), l: () => changeGray(-0.03, 0), L: () => changeGray(0.03, 0),
  s: save, o: () => at("file").click(),
};

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isIn = selector => event.target instanceof Element && event.target.matches(selector);
  if (isIn("input[type=number], select") || (isIn("input[type=range]") && event.key.startsWith("Arrow"))) return;
  const action = KEYS[event.key];
  if (!action || (!view && event.key !== "o")) return;
  event.preventDefault();
  action();
});

/* Fingers and mouse. */
const pointers = new Map();
const point = event => {
  const box = canvas.getBoundingClientRect();
  return { x: (event.clientX - box.left) * density(), y: (event.clientY - box.top) * density() };
};
canvas.addEventListener("pointerdown", event => { canvas.setPointerCapture(event.pointerId); pointers.set(event.pointerId, point(event)); });
for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, event => pointers.delete(event.pointerId));
canvas.addEventListener("pointermove", event => {
  if (!view) return;
  const to = point(event), from = pointers.get(event.pointerId);
  tell(to);
  if (!from) return;
  const other = [...pointers].find(([id]) => id !== event.pointerId);
  pointers.set(event.pointerId, to);
  if (other) {
    const rest = other[1];
    const before = Math.hypot(from.x - rest.x, from.y - rest.y), after = Math.hypot(to.x - rest.x, to.y - rest.y);
    if (before > 0) zoom(after / before, (to.x + rest.x) / 2, (to.y + rest.y) / 2);
    move((to.x - from.x) / 2, (to.y - from.y) / 2);
  } else if (event.shiftKey || event.buttons === 2) {
    changeGray(-(to.y - from.y) / canvas.height, (to.x - from.x) / canvas.width);
  } else move(to.x - from.x, to.y - from.y);
});
canvas.addEventListener("contextmenu", event => event.preventDefault());
canvas.addEventListener("dblclick", event => { if (view) { const { x, y } = point(event); zoom(2, x, y); } });
canvas.addEventListener("wheel", event => {
  if (!view) return;
  event.preventDefault();
  const { x, y } = point(event);
  zoom(2 ** (-event.deltaY / (event.deltaMode ? 10 : 300)), x, y);
}, { passive: false });

/** Where the pointer is, and what the model says there. */
function tell(place) {
  const col = Math.floor(view.x + place.x / view.scale), row = Math.floor(view.y + place.y / view.scale);
  if (row < 0 || col < 0 || row >= view.height || col >= view.width) { at("where").textContent = ""; return; }
  const y = Math.floor((row + 0.5) * view.mapHeight / view.height), x = Math.floor((col + 0.5) * view.mapWidth / view.width);
  const probability = view.map[y * view.mapWidth + x] / 65535;
  at("where").textContent = `row ${row}, column ${col}, gray ${view.pixels[row * view.width + col]}, probability ${probabilityText(probability)}, ${Math.round(view.scale * 100)} %`;
}

const clicks = {
  fit, native, smaller: () => zoom(0.8), larger: () => zoom(1.25), export: save, again: () => score(file, true),
  reset: KEYS.r, other: () => at("file").click(), choose: () => at("file").click(),
};
for (const [id, action] of Object.entries(clicks)) at(id).addEventListener("click", action);
at("threshold").addEventListener("input", event => setThreshold(Number(event.target.value)));
for (const id of ["level", "window"]) at(id).addEventListener("input", () => setGray(at("level").value / 1000, at("window").value / 1000));
for (const [id, name] of [["show-marks", "showMarks"], ["show-activation", "showActivation"], ["invert", "invert"]]) {
  at(id).addEventListener("change", event => { view[name] = event.target.checked; redraw(); });
}
at("file").addEventListener("change", event => { score(event.target.files[0]); event.target.value = ""; });
const stage = at("stage");
for (const name of ["dragenter", "dragover"]) document.addEventListener(name, event => { event.preventDefault(); stage.classList.add("over"); });
document.addEventListener("dragleave", event => { if (!event.relatedTarget) stage.classList.remove("over"); });
document.addEventListener("drop", event => { event.preventDefault(); stage.classList.remove("over"); score(event.dataTransfer.files[0]); });
new ResizeObserver(resize).observe(stage);
resize();
