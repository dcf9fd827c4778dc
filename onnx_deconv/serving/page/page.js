// The page of onnx-deconv explore. What comes from a model, a photograph or a label is set as text, never as
// markup. What is shown follows from `state`, which stands in the address, so that a link leads back to it.
"use strict";

const VIEWS = ["overlay", "projection", "heat"];
const THUMBNAIL = 56, LARGE = 336, PATIENCE = 400;
const state = { photograph: null, layer: null, target: null, position: null, methods: ["auto"], view: "overlay" };
let model = null, layerMaps = null, drawn = 0, leaving = new AbortController();
const $ = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function say(text) { $("status").textContent = text; }

async function ask(path, query = {}, options = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const signal = options.method ? undefined : leaving.signal;
  const answer = await fetch(`${path}?${new URLSearchParams(given)}`, { signal, ...options });
  if (answer.ok) return answer.json();
  let reason = answer.statusText;
  try { reason = (await answer.json()).error; } catch { /* not an answer of this server */ }
  throw new Error(reason);
}

function asked(method) {
  const { photograph, layer, target, position } = state;
  return { photograph, layer, target, position, method };
}

// The state and the address

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of ["photograph", "layer", "target", "position"]) state[name] = given.get(name);
  state.methods = (given.get("methods") || "auto").split(" ").filter((m) => model.methods.includes(m));
  state.view = VIEWS.includes(given.get("view")) ? given.get("view") : state.layer ? "projection" : "overlay";
}

function change(changes) {
  Object.assign(state, changes);
  const given = Object.entries({ ...state, methods: state.methods.join(" ") }).filter(([, value]) => value);
  history.pushState(null, "", `#${new URLSearchParams(given)}`);
  show();
}

// What is shown

let shown = {};
async function show() {
  const turn = ++drawn, before = shown;
  leaving.abort();  // nobody waits any more for what was asked before
  leaving = new AbortController();
  shown = {};
  marks();
  if (!state.photograph) { say("Choose, drop or paste a photograph."); return; }
  say("Working…");
  try {
    const isNew = state.photograph !== before.photograph;
    if (isNew) {
      $("stage").hidden = false;
      $("seen").src = `api/seen.png?${new URLSearchParams({ photograph: state.photograph })}`;
    }
    const work = [explanations(turn)];
    if (isNew) work.push(classes(turn));
    if (state.layer && (isNew || state.layer !== before.layer)) work.push(maps(turn));
    if (!state.layer) noMaps();
    await Promise.all(work);
    if (turn !== drawn) return;
    shown = { ...state };
    marks();
    say("Ready.");
  } catch (error) {
    if (turn === drawn) say(error.message);
  }
}

function marks() {
  for (const each of document.querySelectorAll("[data-mark]")) {
    const [name, value] = [each.dataset.mark, each.dataset.value];
    const is = name === "class" ? !state.layer && state.target === value
      : name === "channel" ? Boolean(state.layer) && state.target === value : state[name] === value;
    each.setAttribute(each.dataset.kind || "aria-pressed", String(is));
  }
  for (const box of document.querySelectorAll("#methods input")) box.checked = state.methods.includes(box.value);
  unit();
}

// What was there before stays until all is made, or, if that takes long, gives way to what is made by then.
async function explanations(turn) {
  const cards = state.methods.map((method) => element("p", { class: "card hint" }, `${method}: working…`));
  const put = () => { if (turn === drawn) $("cards").replaceChildren(...cards); };
  const late = setTimeout(put, PATIENCE);
  await Promise.all(state.methods.map(async (method, k) => {
    let made;
    try { made = card(turn, method, await ask("api/explanation", asked(method))); }
    catch (error) { made = element("p", { class: "failed" }, `${method}: ${error.message}`); }
    cards[k].replaceWith(made);
    cards[k] = made;
  }));
  clearTimeout(late);
  put();
}

function card(turn, method, found) {
  const query = new URLSearchParams(Object.entries(asked(method)).filter(([, value]) => value !== null));
  const picture = element("img", { src: found.pictures[state.view], alt: `${found.caption}, ${found.method}, ${state.view}` });
  for (const view of VIEWS) picture.dataset[view] = found.pictures[view];
  picture.dataset.words = `${found.caption}, ${found.method}`;
  if (turn === drawn) field(found);
  const copy = element("button", { type: "button", onclick: () => copied(found.command) }, "Copy the command");
  return element("figure", { class: found.is_wide ? "card wide" : "card" }, picture, element("figcaption", {},
    element("strong", {}, found.caption), ` — ${found.method}`,
    ...(found.note ? [element("p", { class: "hint" }, found.note)] : []),
    ...inside(found),
    element("p", {},
      element("a", { href: `api/explanation.png?${query}&view=side-by-side`, download: "" }, "Picture"),
      element("a", { href: `api/explanation.npy?${query}`, download: "" }, "Array")),
    element("code", {}, found.command), copy));
}

function inside(found) {
  if (!found.inside.length) return [];
  const words = ["The photograph inside the receptive field", "The projection inside it"];
  return [element("div", { class: "inside" }, ...found.inside.map((src, k) => element("img", { src, alt: words[k] })))];
}

async function copied(text) {
  try { await navigator.clipboard.writeText(text); say("Copied."); }
  catch { say("The browser does not allow copying: mark the text."); }
}

function field(found) {
  const box = $("field");
  box.hidden = !found.field;
  $("field-words").textContent = found.field
    ? `Receptive field: rows ${found.field[0]} to ${found.field[2] - 1}, columns ${found.field[1]} to ${found.field[3] - 1}` : "";
  if (!found.field) return;
  const [height, width] = found.size, [top, left, bottom, right] = found.field;
  box.style.top = `${100 * top / height}%`;
  box.style.left = `${100 * left / width}%`;
  box.style.height = `${100 * (bottom - top) / height}%`;
  box.style.width = `${100 * (right - left) / width}%`;
}

async function classes(turn) {
  const found = await ask("api/classes", { photograph: state.photograph });
  if (turn !== drawn) return;
  const isShare = found.every((one) => one.score >= 0 && one.score <= 1);
  $("classes").replaceChildren(...found.map((one) => element("li", {}, element("button", {
    type: "button", "data-mark": "class", "data-value": String(one.class),
    onclick: () => change({ layer: null, target: String(one.class), position: null, view: "overlay" }),
  }, one.label || `class ${one.class}`,
  element("small", {}, `${one.label ? `class ${one.class}, ` : ""}${one.score.toPrecision(3)}`),
  ...(isShare ? [element("meter", { min: 0, max: 1, value: one.score, "aria-hidden": "true" })] : [])))));
}

function noMaps() {
  layerMaps = null;
  $("maps").replaceChildren();
  $("maps-words").textContent = "Choose a layer.";
}

async function maps(turn) {
  const found = await ask("api/maps", { photograph: state.photograph, layer: state.layer });
  if (turn !== drawn) return;
  layerMaps = found;
  if (found.sheet) {
    found.picture = new Image();
    found.picture.src = found.sheet;
    await found.picture.decode();
    if (turn !== drawn) return;
  }
  const count = found.maps.length < found.count ? `the ${found.maps.length} strongest of ${found.count}` : found.count;
  $("maps-words").textContent = `${found.layer}: ${count} maps of ${found.size.join("×") || "one value"}, the strongest first.`;
  $("maps").replaceChildren(...found.maps.map((one, k) => element("li", {}, element("button", {
    type: "button", "data-mark": "channel", "data-value": String(one.channel),
    "aria-label": `Channel ${one.channel}, strength ${one.strength.toPrecision(3)}`,
    title: `channel ${one.channel}, strength ${one.strength.toPrecision(3)}`,
    onclick: () => change({ target: String(one.channel), position: null, view: "projection" }),
  }, ...(found.picture ? [thumbnail(k, THUMBNAIL)] : []), String(one.channel)))));
}

function thumbnail(k, side) {
  const made = element("canvas", { "aria-hidden": "true" });
  draw(made, k, side);
  return made;
}

function draw(canvas, k, side) {
  const { cell: [height, width], columns, picture } = layerMaps, scale = side / Math.max(height, width);
  canvas.width = Math.max(1, Math.round(scale * width));
  canvas.height = Math.max(1, Math.round(scale * height));
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = false;
  pen.drawImage(picture, width * (k % columns), height * Math.floor(k / columns), width, height,
    0, 0, canvas.width, canvas.height);
}

// The chosen map, enlarged: a unit is clicked in it, or told by its row and column.

function unit() {
  const k = layerMaps && state.layer === layerMaps.layer && layerMaps.picture
    ? layerMaps.maps.findIndex((one) => String(one.channel) === state.target) : -1;
  $("unit").hidden = $("large").hidden = k < 0;
  if (k < 0) return;
  const large = $("large"), [rows, columns] = layerMaps.size;
  const [row, column] = state.position ? state.position.split(",").map(Number) : layerMaps.maps[k].position;
  draw(large, k, Math.min(LARGE, $("maps").clientWidth || LARGE));
  const told = [state.photograph, state.layer, state.target, state.position].join();
  if ($("unit").dataset.told !== told) {  // else somebody may be typing
    $("unit").dataset.told = told;
    $("row").max = rows - 1;
    $("column").max = columns - 1;
    $("row").value = row;
    $("column").value = column;
  }
  if (state.position) mark(large, row, column, rows, columns);
}

function mark(canvas, row, column, rows, columns) {
  const pen = canvas.getContext("2d"), height = canvas.height / rows, width = canvas.width / columns;
  for (const [colour, out] of [["#000", 2.5], ["#fff", 1]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = 1.5;
    pen.strokeRect(column * width - out, row * height - out, width + 2 * out, height + 2 * out);
  }
}

// What one does

async function send(file) {
  if (!file) return;
  say("Sending the photograph…");
  try {
    const one = await ask("api/photographs", { name: file.name || "pasted" }, { method: "POST", body: file });
    await photographs();
    change({ photograph: one.id });
  } catch (error) { say(error.message); }
}

async function photographs() {
  const all = await ask("api/photographs");
  $("photographs").replaceChildren(...all.map((one) => element("button", {
    type: "button", "data-mark": "photograph", "data-value": one.id, onclick: () => change({ photograph: one.id }),
  }, one.name)));
  return all;
}

function listen() {
  $("file").addEventListener("change", (event) => send(event.target.files[0]));
  const drop = $("drop");
  addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  addEventListener("dragleave", () => drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    send(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => send([...event.clipboardData.files].find((f) => f.type.startsWith("image/"))));
  addEventListener("popstate", () => { fromAddress(); show(); });
  $("search").addEventListener("input", search);
  $("target-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const target = $("target").value.trim();
    if (target) change({ layer: null, target, position: null, view: "overlay" });
  });
  $("unit").addEventListener("submit", (event) => {
    event.preventDefault();
    change({ position: `${Number($("row").value)},${Number($("column").value)}`, view: "projection" });
  });
  $("whole").addEventListener("click", () => change({ position: null }));
  $("large").addEventListener("click", (event) => {
    const at = $("large").getBoundingClientRect(), [rows, columns] = layerMaps.size;
    const row = Math.min(rows - 1, Math.floor(rows * (event.clientY - at.top) / at.height));
    const column = Math.min(columns - 1, Math.floor(columns * (event.clientX - at.left) / at.width));
    change({ position: `${row},${column}`, view: "projection" });
  });
  for (const list of ["layers", "maps", "classes"]) $(list).addEventListener("keydown", arrows);
}

function search() {
  const words = $("search").value.toLowerCase().split(/\s+/);
  for (const item of $("layers").children) item.hidden = !words.every((w) => item.dataset.words.includes(w));
}

function arrows(event) {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const all = [...event.currentTarget.querySelectorAll("li:not([hidden]) button")];
  const next = all[all.indexOf(document.activeElement) + step];
  if (next) { event.preventDefault(); next.focus(); }
}

function view(name) {
  state.view = name;
  for (const picture of document.querySelectorAll(".card > img")) {
    picture.src = picture.dataset[name];
    picture.alt = `${picture.dataset.words}, ${name}`;
  }
  const given = new URLSearchParams(location.hash.slice(1));
  given.set("view", name);
  history.replaceState(null, "", `#${given}`);
  marks();
}

function layerItem(one) {
  const shape = one.shape.map((size) => size ?? "?").join("×"), name = one.number ? `${one.number} ` : "";
  return element("li", { "data-words": `${name}${one.layer} ${one.operator}`.toLowerCase() }, element("button", {
    type: "button", "data-mark": "layer", "data-value": one.layer, "data-kind": "aria-current",
    onclick: () => change({ layer: one.layer, target: null, position: null, view: "projection" }),
  }, name + one.layer, element("small", {}, `${one.operator} ${shape}`)));
}

async function begin() {
  listen();
  model = await ask("api/model");
  $("model").textContent = model.name;
  document.title = `${model.name} — onnx-deconv explore`;
  $("layers").replaceChildren(...model.layers.map(layerItem));
  $("views").replaceChildren(...VIEWS.map((name) => element("button", {
    type: "button", "data-mark": "view", "data-value": name, onclick: () => view(name),
  }, name)));
  $("methods").append(...model.methods.map((name) => element("label", {}, element("input", {
    type: "checkbox", value: name, onchange: (event) => {
      const rest = state.methods.filter((m) => m !== name);
      change({ methods: event.target.checked ? [...rest, name] : rest.length ? rest : ["auto"] });
    },
  }), ` ${name}`)));
  const all = await photographs();
  fromAddress();
  if (!state.methods.length) state.methods = ["auto"];
  if (!state.photograph && all.length) state.photograph = all[0].id;
  show();
}

begin().catch((error) => say(error.message));
