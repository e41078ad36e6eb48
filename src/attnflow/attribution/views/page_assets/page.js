/* The page around the picture: which text, tokens or words, light or dark, and what is followed.
 * Everything can be asked for in the address: #text=2&token=5&words&keep=90&spread&dark,
 * and of an image #look=scores. */
"use strict";

const root = document.documentElement;
const texts = JSON.parse(document.getElementById("data").textContent);
const articles = Array.from(document.querySelectorAll("article"));
const pictures = new Map();
const state = { text: 0, words: false, look: "both", keep: null, spread: false, theme: "auto", chosen: null };

const shares = [25, 50, 80, 90, 95];
const usual = shares.slice(0, 3);

const press = (buttons, wanted) => buttons.forEach((button) => button.setAttribute("aria-pressed", String(wanted(button))));
const article = () => articles[state.text];
const written = new Map(Array.from(document.querySelectorAll(".written"), (section) =>
  [Number(section.dataset.group), new Written(section, texts, select)]));
const writing = () => written.get(texts[state.text].group);
const maps = () => Array.from((writing() ? writing().section : article()).querySelectorAll(".heat"));
const tokensOf = (span) => span.dataset.t.split(" ").map(Number);

function read() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const anchor = /^#text-(\d+)$/.exec(location.hash);
  const text = Number(anchor ? anchor[1] : asked.get("text") || 0);
  state.text = texts[text] ? text : 0;
  state.words = asked.has("words");
  state.keep = shares.find((share) => share === Number(asked.get("keep"))) || null;
  state.spread = asked.has("spread");
  state.look = ["scores", "image"].find((look) => look === asked.get("look")) || "both";
  state.theme = asked.has("dark") ? "dark" : asked.has("light") ? "light" : "auto";
  state.chosen = askedFor(asked);
}

function askedFor(asked) {
  if (!asked.has("token")) return null;
  const tokens = asked.get("token").split(",").map(Number).filter((t) => t in texts[state.text].names);
  const row = Math.max(0, Math.trunc(Number(asked.get("row")))) || 0;
  return tokens.length ? { row, tokens } : null;
}

function remember() {
  const { text, words, look, keep, spread, theme, chosen } = state;
  const parts = [];
  if (text) parts.push("text=" + text);
  if (words) parts.push("words");
  if (look !== "both") parts.push("look=" + look);
  if (keep) parts.push("keep=" + keep);
  if (spread) parts.push("spread");
  if (theme !== "auto") parts.push(theme);
  if (chosen) parts.push("token=" + chosen.tokens.join(","));
  if (chosen && chosen.row) parts.push("row=" + chosen.row);
  if (location.protocol !== "about:") history.replaceState(null, "", "#" + parts.join("&"));
}

/* Bring the page into the state that is asked for. */
function show() {
  if (state.theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = state.theme;
  press(document.querySelectorAll("[data-theme-choice]"), (button) => button.dataset.themeChoice === state.theme);
  articles.forEach((each, i) => { each.hidden = i !== state.text; });
  written.forEach((each, group) => { each.section.hidden = group !== texts[state.text].group; });
  document.querySelectorAll(".chooser a").forEach((link, i) => {
    if (i === texts[state.text].group) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  const wanted = state.words && article().querySelector("[data-show]") ? "word" : "token";
  article().querySelectorAll("[data-granularity]").forEach((each) => { each.hidden = each.dataset.granularity !== wanted; });
  press(article().querySelectorAll("[data-show]"), (button) => button.dataset.show === wanted);
  article().dataset.look = state.look;
  press(article().querySelectorAll("[data-look]"), (button) => button.dataset.look === state.look);
  if (writing()) writing().show(state.text);
  showFlow();
  showChosen();
}

/* Another decision of the same page. */
function select(index) {
  if (index === state.text) return;
  state.text = index;
  state.chosen = null;
  remember();
  show();
}

function showFlow() {
  const section = article().querySelector(".flow");
  if (!section) return;
  if (!pictures.has(state.text)) pictures.set(state.text, newPicture(section));
  const picture = pictures.get(state.text);
  const keep = state.keep || comfortable(picture.flow, usual);
  const drawn = picture.draw(keep / 100, state.spread);
  press(section.querySelectorAll("[data-keep]"), (button) => Number(button.dataset.keep) === keep);
  press(section.querySelectorAll("[data-width]"), (button) => (button.dataset.width === "spread") === state.spread);
  section.querySelector("[data-widths]").hidden = !picture.place.slanted;
  const limit = drawn < keep / 100 - 0.005 ? ", as much as this file holds" : "";
  section.querySelector("[data-drawn]").textContent = percent(drawn) + " of the flow is drawn" + limit + ".";
}

function newPicture(section) {
  const about = section.querySelector("[data-link]");
  return new Picture(section, texts[state.text], {
    pointed: (words) => { about.textContent = words; },
    chosen: (row, tokens) => choose(row, tokens),
  });
}

function choose(row, tokens) {
  const same = state.chosen && state.chosen.row === row && String(state.chosen.tokens) === String(tokens);
  state.chosen = same ? null : { row, tokens };
  remember();
  showChosen();
}

function showChosen() {
  const chosen = state.chosen;
  const on = (span) => chosen !== null && chosen.row === 0 && tokensOf(span).some((t) => chosen.tokens.includes(t));
  maps().forEach((map) => {
    press(map.querySelectorAll(".t"), on);
    ring(map, "chosen", Array.from(map.querySelectorAll("rect.t")).find(on));
  });
  const picture = pictures.get(state.text);
  if (!picture) return;
  const panel = article().querySelector("[data-paths]");
  panel.replaceChildren();
  if (!chosen || chosen.row > picture.layers) picture.dark();
  else describe(panel, picture, chosen, picture.light(chosen.row, chosen.tokens));
}

function add(parent, name, words, style) {
  const element = parent.appendChild(document.createElement(name));
  if (words) element.textContent = words;
  if (style) element.className = style;
  return element;
}

/* Put into words what follows from the chosen nodes. */
function describe(panel, picture, chosen, found) {
  const flow = texts[state.text].flow;
  const name = chosen.tokens.map((t) => picture.names[t]).join(" ");
  const line = add(panel, "p");
  add(line, "strong", name);
  if (!found.start) {
    line.append(" carries no flow here.");
    return;
  }
  const place = chosen.row === 0 ? " receives " : " passes on, above layer " + chosen.row + ", ";
  const share = percent(found.start / UNITS) + " of the flow. ";
  const followed = percent(Math.min(1, found.top / found.start));
  const scale = found.wider > 1.5 ? "; its paths are drawn " + found.wider.toFixed(0) + " times wider" : "";
  line.append(place + share + followed + " of that is followed up to the decision" + scale + ".");
  add(panel, "p", chosen.row === 0 ? "Its strongest paths, each with its part of that:" : "Tokens it reaches, each with its part of that:", "quiet");
  const list = add(panel, "ol");
  if (chosen.row === 0) strongest(flow, chosen.tokens).forEach((path) => addPath(list, path, picture, found.start));
  else addReached(list, picture, found);
}

function addPath(list, path, picture, start) {
  const item = add(list, "li");
  add(item, "span", percent(path.flow / start));
  const steps = add(item, "span", "", "step");
  const top = path.nodes.length - 1;
  add(steps, "bdi", picture.names[path.nodes[0]]);
  for (let i = 1; i <= top; i++) {
    if (path.nodes[i] === path.nodes[i - 1]) continue;
    steps.append(" ");
    add(steps, "small", "layer " + (top - i + 1) + " →");
    steps.append(" ");
    add(steps, "bdi", picture.names[path.nodes[i]]);
  }
}

function addReached(list, picture, found) {
  const reached = Array.from(found.bottom).sort((a, b) => b[1] - a[1]).slice(0, 8);
  for (const [token, mass] of reached) {
    const item = add(list, "li");
    add(item, "span", percent(mass / found.start));
    add(item, "bdi", picture.names[token]);
  }
}

/* Frame a patch of an image, or none. */
function ring(map, name, item) {
  map.querySelectorAll(".ring." + name).forEach((each) => each.remove());
  if (!item || item.tagName !== "rect") return;
  for (const layer of ["edge", "line"]) {
    const frame = document.createElementNS(item.namespaceURI, "rect");
    for (const side of ["x", "y", "width", "height"]) frame.setAttribute(side, item.getAttribute(side));
    frame.setAttribute("class", "ring " + name + " " + layer);
    item.ownerSVGElement.append(frame);
  }
}

/* What an item says of itself: its title, of a patch an element within. */
function titleOf(item) {
  const within = item.querySelector("title");
  const words = within ? within.textContent : item.title;
  if (within) within.remove();
  item.removeAttribute("title");
  return words;
}

/* One tab stop for the text or image: arrow keys move between its parts. */
function prepareMap(map) {
  const items = Array.from(map.querySelectorAll(".t"));
  const about = map.parentElement.querySelector("[data-about]");
  const whole = map.dataset.columns ? "The image" : "The text";
  map.setAttribute("role", "group");
  map.setAttribute("aria-label", whole + "; arrow keys move between its parts, Enter follows one");
  const svg = map.querySelector("svg");
  if (svg) {
    svg.setAttribute("role", "group");
    svg.addEventListener("pointerleave", () => ring(map, "at", null));
  }
  items.forEach((item, i) => {
    item.setAttribute("role", "button");
    item.setAttribute("aria-pressed", "false");
    item.dataset.about = titleOf(item);
    item.setAttribute("aria-label", item.dataset.about);
    item.setAttribute("tabindex", i === 0 ? 0 : -1);
    const tell = () => {
      about.textContent = item.dataset.about;
      ring(map, "at", item);
    };
    item.addEventListener("focus", () => {
      if (item.dataset.article) select(Number(item.dataset.article));
      tell();
    });
    item.addEventListener("pointerenter", tell);
    item.addEventListener("blur", () => ring(map, "at", null));
    item.addEventListener("click", () => act(item));
  });
  map.addEventListener("keydown", (event) => moveInMap(event, items));
}

/* A token that is explained is chosen to be read about; of any other the paths are followed. */
function act(item) {
  if (item.dataset.article) select(Number(item.dataset.article));
  else choose(0, tokensOf(item));
}

function moveInMap(event, items) {
  const now = items.indexOf(document.activeElement);
  const forward = getComputedStyle(items[0].parentElement).direction === "rtl" ? -1 : 1;
  const moves = { ArrowLeft: now - forward, ArrowRight: now + forward, Home: 0, End: items.length - 1 };
  const columns = Number(event.currentTarget.dataset.columns);
  if (columns) Object.assign(moves, { ArrowUp: now - columns, ArrowDown: now + columns });
  if (!(moves[event.key] in items)) delete moves[event.key];
  if (event.key === "Enter" || event.key === " ") act(items[now]);
  else if (event.key in moves) focusOn(items, now, moves[event.key]);
  else return;
  event.preventDefault();
}

function focusOn(items, old, next) {
  items[old].tabIndex = -1;
  items[next].tabIndex = 0;
  items[next].focus();
}

function listen() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.themeChoice) state.theme = button.dataset.themeChoice;
    if (button.dataset.show) state.words = button.dataset.show === "word";
    if (button.dataset.look) state.look = button.dataset.look;
    if (button.dataset.width) state.spread = button.dataset.width === "spread";
    if (button.dataset.keep) state.keep = Number(button.dataset.keep);
    remember();
    show();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.chosen) choose(state.chosen.row, state.chosen.tokens);
  });
  window.addEventListener("hashchange", () => { read(); show(); });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth !== width) { width = window.innerWidth; show(); }
  });
}

root.classList.add("scripted");
document.querySelectorAll(".heat").forEach(prepareMap);
read();
listen();
show();
