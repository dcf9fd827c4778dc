// The page of onnx-deconv explore. What comes from a model, a photograph or a label is set as text, never as
// markup. What is shown follows from `state`, which stands in the address, so that a link leads back to it.
"use strict";

const VIEWS = ["overlay", "projection", "heat"];
const PATIENCE = 400, KEPT = 300, FILM = 512, PACE = 150;
const state = { photograph: null, layer: null, target: null, position: null, methods: ["auto"], cam_layer: null, view: "overlay" };
let model = null, layerMaps = null, drawn = 0, leaving = new AbortController();
let film = null;  // the camera's stream, while photographs come from it
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
  const { photograph, layer, target, position, cam_layer: cam } = state;
  return { photograph, layer, target, position, method: cam && hasChoice(method) ? `${method}@${cam}` : method };
}

// Whether a class's activation map, whose layer can be chosen, takes part.
function hasChoice(method) { return !state.layer && model.cams.includes(method); }

// The state and the address

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of ["photograph", "layer", "target", "position", "cam_layer"]) state[name] = given.get(name);
  state.methods = (given.get("methods") || "auto").split(" ").filter((m) => model.methods.includes(m));
  state.view = VIEWS.includes(given.get("view")) ? given.get("view") : state.layer ? "projection" : "overlay";
}

function change(changes) {
  Object.assign(state, changes);
  const given = Object.entries({ ...state, methods: state.methods.join(" ") }).filter(([, value]) => value);
  history[film ? "replaceState" : "pushState"](null, "", `#${new URLSearchParams(given)}`);
  return film ? show() : soon();
}

// What is shown

// The first of many quick changes is shown at once, then, at this pace, the last: the server need not make those between.
let due = null, begun = -Infinity;
function soon() {
  clearTimeout(due);
  const wait = begun + PACE - performance.now();
  if (wait > 0) {
    say("Working…");
    due = setTimeout(soon, wait);
    return;
  }
  begun = performance.now();
  show();
}

let shown = {};
async function show() {
  const turn = ++drawn, before = shown;
  leaving.abort();  // nobody waits any more for what was asked before
  leaving = new AbortController();
  shown = {};
  marks();
  if (!state.photograph) { say("Choose, drop or paste a photograph."); return; }
  if (!film) say("Working…");
  const isNew = state.photograph !== before.photograph;
  try {
    if (isNew) {
      $("stage").hidden = false;
      $("seen").src = `api/seen.png?${new URLSearchParams({ photograph: state.photograph })}`;
    }
    const work = [explanations(turn)];
    if (isNew) work.push(classes(turn));
    if (!state.layer) noMaps();
    else work.push((isNew || state.layer !== before.layer ? maps(turn) : Promise.resolve()).then(() => nine(turn)));
    await Promise.all(work);
    if (turn !== drawn) return;
    shown = { ...state };
    marks();
    say(film ? "Live." : "Ready.");
  } catch (error) {
    if (turn !== drawn) return;
    say(error.message);
    if (!isNew) return;
    $("stage").hidden = true;  // nothing of the photograph before stays beside one that cannot be read
    $("classes").replaceChildren();
    noMaps();
  }
}

// The channel that is shown: where none is asked for, the strongest.
function channel() {
  return !state.layer || !layerMaps || layerMaps.asked !== state.layer ? null : state.target ?? String(layerMaps.maps[0].channel);
}

function marks() {
  for (const each of document.querySelectorAll("[data-mark]")) {
    const [name, value] = [each.dataset.mark, each.dataset.value];
    const is = name === "class" ? !state.layer && state.target === value
      : name === "channel" ? channel() === value : state[name] === value;
    each.setAttribute(each.dataset.kind || "aria-pressed", String(is));
  }
  for (const box of document.querySelectorAll("#methods input")) box.checked = state.methods.includes(box.value);
  $("cam").hidden = !state.methods.some(hasChoice);
  $("cam-layer").value = state.cam_layer ?? "";
  unit();
}

// What was there before stays until all is made, or, if that takes long, gives way to what is made by then.
async function explanations(turn) {
  const cards = state.methods.map((method) => element("figure", { class: "card waiting" }, element("div", { class: "blank" }),
    element("figcaption", { class: "hint" }, `${method}: working…`)));
  const put = () => { if (turn === drawn) $("cards").replaceChildren(...cards); };
  if (!$("cards").children.length) put();
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
  const file = (kind, words, view = "") => element("a", { href: `api/explanation.${kind}?${query}${view}`, download: "" }, words);
  const picture = element("img", { src: found.pictures[state.view], alt: `${found.caption}, ${found.method}, ${state.view}` });
  for (const view of VIEWS) picture.dataset[view] = found.pictures[view];
  picture.dataset.words = `${found.caption}, ${found.method}`;
  if (turn === drawn && method === state.methods[0]) { chosenField = found.field; field(found.field); }
  const copy = element("button", { type: "button", onclick: () => copied(found.command) }, "Copy the command");
  const note = element("p", { class: "hint note", hidden: found.note ? null : "" }, found.note || "");
  if (found.note_follows && !film) setTimeout(() => measured(turn, method, note), PATIENCE);
  return element("figure", { class: found.is_wide ? "card wide" : "card" }, picture, element("figcaption", {},
    element("strong", {}, found.caption), ` — ${found.method}`,
    note,
    ...inside(found),
    element("div", { class: "links" }, file("png", "Picture", "&view=side-by-side"), file("svg", "SVG"), file("pdf", "PDF"),
      file("npy", "Array")),
    element("code", {}, found.command), copy));
}

// Measuring takes longer than explaining: it is only done for what one stays at.
async function measured(turn, method, note) {
  if (turn !== drawn) return;
  try {
    const { note: words } = await ask("api/note", asked(method));
    if (turn !== drawn || !words) return;
    note.textContent = words;
    note.hidden = false;
  } catch { /* the page has gone on */ }
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

let chosenField = null;
function field(box) {
  $("field").hidden = !box;
  $("field-words").textContent = box
    ? `Receptive field: rows ${box[0]} to ${box[2] - 1}, columns ${box[1]} to ${box[3] - 1}` : "";
  if (box) place($("field"), box, $("seen").naturalHeight, $("seen").naturalWidth);
}

// Lays an element over the part of a picture, height×width, that a box is.
function place(mark, [top, left, bottom, right], height, width) {
  mark.style.top = `${100 * top / height}%`;
  mark.style.left = `${100 * left / width}%`;
  mark.style.height = `${100 * (bottom - top) / height}%`;
  mark.style.width = `${100 * (right - left) / width}%`;
}

async function classes(turn) {
  const found = await ask("api/classes", { photograph: state.photograph });
  if (turn !== drawn) return;
  const isShare = found.every((one) => one.score >= 0 && one.score <= 1), [best] = found;
  $("classes").replaceChildren(...found.map((one) => answer(one, best, isShare)));
  $("classes").classList.remove("waiting");
}

function answer(one, best, isShare) {
  const bar = element("i");
  if (isShare) bar.style.width = `${100 * one.score}%`;
  const name = one.label || `class ${one.class}`, of = (target) => () => change({ layer: null, target, position: null, view: "overlay" });
  return element("li", {}, element("button", { type: "button", "data-mark": "class", "data-value": String(one.class), onclick: of(String(one.class)) },
    element("span", { class: "name" }, name, element("small", {}, one.score.toPrecision(3))),
    ...(isShare ? [element("span", { class: "bar" }, bar)] : []),
    ...(one.label ? [element("small", {}, `class ${one.class}`)] : [])),
  ...(one === best ? [] : [element("button", { type: "button", class: "versus", title: `What speaks for ${name} against ${best.label || "the first"}`,
    "aria-label": `vs 1st: ${name} against ${best.label || `class ${best.class}`}`, "data-mark": "class", "data-value": `${one.class} - ${best.class}`,
    onclick: of(`${one.class} - ${best.class}`) }, "vs 1st")]));
}

// Room for what comes later, so that nothing moves when it comes: classes that are not seen yet, and pictures of the usual shape.
function reserve() {
  const { count, are_named: named } = model.classes, none = { class: 0, label: named ? "…" : "", score: 0.123 };
  $("classes").replaceChildren(...Array.from({ length: state.photograph ? count : 0 }, (_, k) => answer(k ? { ...none } : none, none, true)));
  shape(...model.size || [1, 1]);
}

function shape(height, width) { $("main").style.setProperty("--seen", `${width} / ${height}`); }

function noMaps() {
  layerMaps = null;
  $("beside").hidden = $("one-map").hidden = true;
  $("maps").replaceChildren();
  $("maps-words").textContent = "Choose a layer to see its feature maps.";
}

async function maps(turn) {
  const found = { ...await ask("api/maps", { photograph: state.photograph, layer: state.layer }), asked: state.layer };
  if (turn !== drawn) return;
  if (found.sheet) {
    found.picture = new Image();
    found.picture.src = found.sheet;
    await found.picture.decode();
    if (turn !== drawn) return;
  }
  if (film && layerMaps && layerMaps.layer === found.layer) inPlace(found);
  else {
    $("maps").replaceChildren(...found.maps.map((one, k) => element("li", {}, element("button", {
      type: "button", "data-mark": "channel", "data-value": String(one.channel),
      onclick: () => change({ target: String(one.channel), position: null, view: "projection" }),
    }, ...(found.picture ? [element("canvas", { "aria-hidden": "true" })] : []), String(one.channel)))));
    found.maps.forEach((one, k) => thumbnail(found, one, k));
  }
  layerMaps = found;
  marks();
  const count = found.maps.length < found.count ? `the ${found.maps.length} strongest of ${found.count}` : found.count;
  $("maps-words").textContent = `${found.layer}: ${count} maps of ${found.size.join("×") || "one value"}, the strongest first.` +
    (found.equals ? ` The first ${found.equals + 1} are equally strong${found.told_apart ? `: ${found.told_apart}, the value before, tells them apart` : ""}.` : "");
}

// While the camera runs, every map stays where it is.
function inPlace(found) {
  const places = new Map(found.maps.map((one, k) => [one.channel, k]));
  for (const item of [...$("maps").children]) {
    const k = places.get(Number(item.firstChild.dataset.value));
    if (k !== undefined) thumbnail(found, found.maps[k], k, item.firstChild);
  }
}

function thumbnail(found, one, k, button = $("maps").children[k].firstChild) {
  const words = `channel ${one.channel}, strength ${one.strength.toPrecision(3)}` +
    (one.equals ? `, which ${one.equals} other position${one.equals === 1 ? " has" : "s have"} too` : "");
  button.title = words;
  button.setAttribute("aria-label", words);
  if (!found.picture) return;
  const { cell: [height, width], columns, picture } = found, canvas = button.querySelector("canvas");
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").drawImage(picture, width * (k % columns), height * Math.floor(k / columns), width, height, 0, 0, width, height);
}

// The chosen map, enlarged: pointing at a position shows what excited it there, a click keeps it.

function unit() {
  const own = channel();
  $("beside").hidden = !(model.atlas && state.photograph && state.layer && /^\d+$/.test(own ?? "0"));
  if (state.layer && own === null) {  // the map before stays until the next is there
    if (!layerMaps) $("one-map").hidden = !(state.photograph && hasMaps(state.layer));
    return;
  }
  const one = own === null || !layerMaps.picture ? null : layerMaps.maps.find((each) => String(each.channel) === own);
  $("one-map").hidden = !one;
  if (!one) return;
  const [rows, columns] = layerMaps.size, { strength, position } = one;
  const [row, column] = state.position ? state.position.split(",").map(Number) : position;
  const told = [state.photograph, state.layer, own, state.position].join();
  const query = new URLSearchParams({ photograph: state.photograph, layer: state.layer, target: own });
  $("map-title").textContent = `${layerMaps.layer}, channel ${own}`;
  if ($("large").getAttribute("src") !== `api/map.png?${query}`) $("large").src = `api/map.png?${query}`;
  $("large").alt = `Feature map ${own} of ${layerMaps.layer}, enlarged; its largest activation is ${strength.toPrecision(3)}`;
  $("chosen").hidden = !state.position;
  if (state.position) place($("chosen"), [row, column, row + 1, column + 1], rows, columns);
  if ($("unit").dataset.told === told) return;  // somebody may be typing
  $("unit").dataset.told = told;
  $("row").max = rows - 1;
  $("column").max = columns - 1;
  $("row").value = row;
  $("column").value = column;
  keyAt = [row, column];
  if (!pointed) back();
}

function hasMaps(name) {
  return model.layers.find((each) => each.layer === name || each.number === name)?.shape.length === 4;
}

// Pointing

const glances = new Map();
let pointed = null, asking = false, keyAt = [0, 0];

// Where in a map of the layer an event is.
function at(event, picture) {
  const box = picture.getBoundingClientRect(), [rows, columns] = layerMaps.size;
  const part = (place, size, count) => Math.max(0, Math.min(count - 1, Math.floor(count * place / size)));
  return [part(event.clientY - box.top, box.height, rows), part(event.clientX - box.left, box.width, columns)];
}

function point(of, place) {
  const query = { photograph: state.photograph, layer: state.layer, target: of, position: place.join(), method: state.methods[0] };
  const key = Object.values(query).join("\n");
  if (pointed && pointed.key === key) return;
  pointed = { key, query, channel: of, place };
  follow();
}

// One request at a time: what the pointer passed over meanwhile is left out.
async function follow() {
  if (asking || !pointed) return;
  const wanted = pointed;
  if (!glances.has(wanted.key)) {
    asking = true;
    try {
      const found = await ask("api/glance", wanted.query, { method: "GET" });
      found.picture = new Image();
      found.picture.src = found.projection;
      await found.picture.decode();
      glances.set(wanted.key, found);
      if (glances.size > KEPT) glances.delete(glances.keys().next().value);
    } catch (error) {
      if (pointed === wanted) { pointed = null; $("glance-words").textContent = error.message; }
    }
    asking = false;
  }
  if (!pointed) return;
  if (pointed.key !== wanted.key) { follow(); return; }
  glance(wanted, glances.get(wanted.key));
}

function glance({ channel: unit, place: [row, column], query }, found) {
  if (query.photograph !== state.photograph || query.layer !== state.layer) return;  // too late
  field(found.field);
  const [top, left, bottom, right] = found.field, isSeen = bottom > top && right > left;
  for (const [id, picture] of [["inside-photo", $("seen")], ["inside-projection", found.picture]]) {
    const canvas = $(id);
    canvas.width = Math.max(1, right - left);
    canvas.height = Math.max(1, bottom - top);
    if (isSeen) canvas.getContext("2d").drawImage(picture, left, top, right - left, bottom - top, 0, 0, canvas.width, canvas.height);
  }
  const isChosen = String(unit) === channel();
  $("hovered").hidden = !isChosen;
  if (isChosen) place($("hovered"), [row, column, row + 1, column + 1], ...layerMaps.size);
  const told = found.activation === 0 ? "not active" : found.activation.toPrecision(3);
  $("glance-words").textContent = `channel ${unit} at ${row},${column}: ${told}`;
  preview(found.projection, `channel ${unit} at ${row},${column}`);
}

// The pointer is gone: what was chosen is shown again; of a whole map, its strongest position is enlarged.
function back() {
  const wasPointed = pointed;
  pointed = null;
  $("hovered").hidden = true;
  if (!state.layer || $("one-map").hidden) return;
  if (wasPointed) preview(null);
  field(chosenField);
  rest(drawn);
}

// Lets the first explanation show another projection for a while; null: its own again.
function preview(src, words) {
  const picture = document.querySelector(".card > img");
  if (!picture) return;
  picture.src = src ?? picture.dataset[state.view];
  if (src) picture.parentElement.dataset.pointed = words;
  else delete picture.parentElement.dataset.pointed;
}

async function rest(turn) {
  const place = [Number($("row").value), Number($("column").value)];
  const query = { photograph: state.photograph, layer: state.layer, target: channel(), position: place.join(), method: state.methods[0] };
  const key = Object.values(query).join("\n");
  try {
    if (!glances.has(key)) {
      const found = await ask("api/glance", query);
      found.picture = new Image();
      found.picture.src = found.projection;
      await found.picture.decode();
      glances.set(key, found);
    }
  } catch { return; }
  await $("seen").decode().catch(() => {});  // of a new photograph, it may still be on its way
  if (turn !== drawn || pointed) return;
  glance({ channel: query.target, place, query }, glances.get(key));
  preview(null);
  $("hovered").hidden = true;
  field(chosenField);
}

async function nine(turn) {
  if ($("beside").hidden) return;
  const own = channel(), found = await ask("api/nine", { layer: state.layer, target: own });
  if (turn !== drawn) return;
  $("nine-words").textContent = found.length ? `Left: what excited it; right: the image there. Channel ${own} of ${state.layer}.`
    : "The atlas has nothing of this map.";
  $("nine").replaceChildren(...found.map((one, k) => element("li", { title: `${one.image}: ${one.activation.toPrecision(3)}` },
    element("div", {}, element("img", { src: one.projection, alt: `Projection, rank ${k + 1}` }), element("img", { src: one.patch, alt: `What the unit saw in ${one.image}` })),
    element("span", {}, `${one.activation.toPrecision(3)} ${one.image}`))));
}

// What one does

async function send(file) {
  if (!file) return;
  stopFilm();
  say("Sending the photograph…");
  try {
    const one = await ask("api/photographs", { name: file.name || "pasted" }, { method: "POST", body: file });
    await photographs();
    change({ photograph: one.id });
  } catch (error) { say(error.message); }
}

async function photographs() {
  const all = await ask("api/photographs");
  const src = (one) => `api/seen.png?${new URLSearchParams({ photograph: one.id })}`;
  $("photographs").replaceChildren(...all.map((one) => element("button", {
    type: "button", title: one.name, "data-mark": "photograph", "data-value": one.id, onclick: () => { stopFilm(); change({ photograph: one.id }); },
  }, element("img", { src: src(one), alt: "", loading: "lazy", onerror: (event) => event.target.replaceWith("✕ unreadable") }),
  element("span", {}, one.name))));
  return all;
}

// The camera: each frame is explained as soon as the one before is shown, until it is stopped and the last is kept.

async function webcam() {
  if (film) { film.isKept = true; stopFilm(); return; }
  try { film = await navigator.mediaDevices.getUserMedia({ video: true }); }
  catch (error) { film = null; say(`No picture comes from a camera: ${error.message}`); return; }
  $("webcam").setAttribute("aria-pressed", "true");
  $("webcam").textContent = "Keep this picture";
  $("drop").classList.add("live");
  const video = $("film"), own = film;
  let last = null;
  try {
    video.srcObject = own;
    await video.play();
    while (film === own) {
      const one = await ask("api/photographs", { name: "webcam", instead: last }, { method: "POST", body: await frame(video) });
      last = one.id;
      if (film !== own) break;
      await change({ photograph: last });
      await new Promise(requestAnimationFrame);
    }
    await photographs();
    if (own.isKept && last) change({ photograph: last });  // the frame that was on its way took the place of the one shown
    else marks();
  } catch (error) {
    stopFilm();
    say(error.message);
  }
}

async function frame(video) {
  const scale = Math.min(1, FILM / Math.min(video.videoWidth, video.videoHeight)), canvas = document.createElement("canvas");
  canvas.width = Math.round(scale * video.videoWidth);
  canvas.height = Math.round(scale * video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
}

function stopFilm() {
  if (!film) return;
  for (const track of film.getTracks()) track.stop();
  film = null;
  $("webcam").setAttribute("aria-pressed", "false");
  $("webcam").textContent = "Webcam";
  $("drop").classList.remove("live");
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
  addEventListener("popstate", () => { fromAddress(); soon(); });
  $("webcam").addEventListener("click", webcam);
  $("search").addEventListener("input", search);
  $("seen").addEventListener("load", () => shape($("seen").naturalHeight, $("seen").naturalWidth));
  $("cam-layer").addEventListener("change", (event) => change({ cam_layer: event.target.value || null }));
  $("target-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const target = $("target").value.trim();
    if (target) change({ layer: null, target, position: null, view: "overlay" });
  });
  $("unit").addEventListener("submit", (event) => {
    event.preventDefault();
    change({ target: channel(), position: `${Number($("row").value)},${Number($("column").value)}`, view: "projection" });
  });
  $("whole").addEventListener("click", () => change({ position: null }));
  const stage = $("map-stage"), keep = (place) => change({ target: channel(), position: place.join(), view: "projection" });
  stage.addEventListener("pointermove", (event) => { if (layerMaps) point(channel(), at(event, stage)); });
  stage.addEventListener("pointerleave", back);
  stage.addEventListener("click", (event) => { if (layerMaps) keep(at(event, stage)); });
  stage.addEventListener("blur", back);
  stage.addEventListener("keydown", (event) => {
    if (!layerMaps) return;
    const step = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
    if (step) {
      event.preventDefault();
      keyAt = keyAt.map((place, k) => Math.max(0, Math.min(layerMaps.size[k] - 1, place + step[k])));
      point(channel(), keyAt);
    } else if (event.key === "Enter" || event.key === " ") { event.preventDefault(); keep(keyAt); }
    else if (event.key === "Escape") back();
  });
  $("maps").addEventListener("pointermove", (event) => {
    const canvas = event.target.closest("canvas");
    if (canvas && layerMaps && !$("one-map").hidden) point(canvas.parentElement.dataset.value, at(event, canvas));
  });
  $("maps").addEventListener("pointerleave", back);
  for (const list of ["layers", "maps", "classes", "photographs"]) $(list).addEventListener("keydown", arrows);
}

function search() {
  const words = $("search").value.toLowerCase().split(/\s+/);
  for (const item of $("layers").children) item.hidden = !words.every((w) => item.dataset.words.includes(w));
  $("no-layers").hidden = [...$("layers").children].some((item) => !item.hidden);
}

function arrows(event) {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const all = [...event.currentTarget.querySelectorAll("button")].filter((each) => each.offsetParent);
  const row = event.currentTarget.id === "maps" && step && /Up|Down/.test(event.key)
    ? all.filter((each) => each.offsetTop === all[0].offsetTop).length : 1;
  const next = all[all.indexOf(document.activeElement) + step * row];
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
  const [told, all] = await Promise.all([ask("api/model"), photographs()]);
  model = told;
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
  $("cam-layer").append(...model.layers.filter((one) => one.shape.length === 4)
    .map((one) => element("option", { value: one.layer }, one.number ? `${one.number} ${one.layer}` : one.layer)));
  fromAddress();
  if (!state.methods.length) state.methods = ["auto"];
  if (!state.photograph && all.length) state.photograph = all[0].id;
  reserve();
  show();
  $("main").classList.remove("waiting");
  const own = document.querySelector("#layers [aria-current=true]");
  if (own) $("network").scrollTop = own.offsetTop - $("network").clientHeight / 2;
}

begin().catch((error) => say(error.message));
