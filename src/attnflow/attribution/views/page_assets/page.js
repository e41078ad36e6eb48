/* The page around the picture: which decision, tokens or words, light or dark, and what is followed.
 * Everything can be asked for in the address: #text=2&token=5&words&keep=90&spread&dark,
 * and of an image #look=scores. */
"use strict";

const root = document.documentElement;
const decisions = JSON.parse(document.getElementById("data").textContent);
const articles = Array.from(document.querySelectorAll("article"));
/* Pictures by index of the decision, each made when first shown: a hidden article has no width. */
const pictures = new Map();
const state = { decision: 0, words: false, look: "both", keep: null, spread: false, theme: "auto", selection: null };

/* Shares of the flow, in percent, that can be drawn; those near all of it only if asked for. */
const allShares = [25, 50, 80, 90, 95];
const usualShares = allShares.slice(0, 3);

const setPressed = (buttons, isPressed) => buttons.forEach((button) => button.setAttribute("aria-pressed", String(isPressed(button))));
const currentArticle = () => articles[state.decision];
const continuations = new Map(Array.from(document.querySelectorAll(".written"), (section) =>
  [Number(section.dataset.group), new ContinuationView(section, decisions, selectDecision)]));
const currentContinuation = () => continuations.get(decisions[state.decision].group);
/* Those of a continuation's text, and of the decision itself: the images of a token's text. */
const heatMaps = () => [currentContinuation() && currentContinuation().section, currentArticle()]
  .flatMap((part) => (part ? Array.from(part.querySelectorAll(".heat")) : []));
const tokensOf = (element) => element.dataset.t.split(" ").map(Number);

function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  /* Links of the page, which also work without scripts, name an article. */
  const anchor = /^#text-(\d+)$/.exec(location.hash);
  const index = Number(anchor ? anchor[1] : parameters.get("text") || 0);
  /* An address may be of another page or typed by hand: what does not fit falls back to the default. */
  state.decision = decisions[index] ? index : 0;
  state.words = parameters.has("words");
  state.keep = allShares.find((share) => share === Number(parameters.get("keep"))) || null;
  state.spread = parameters.has("spread");
  state.look = ["scores", "image"].find((look) => look === parameters.get("look")) || "both";
  state.theme = parameters.has("dark") ? "dark" : parameters.has("light") ? "light" : "auto";
  state.selection = readSelection(parameters);
}

function readSelection(parameters) {
  if (!parameters.has("token")) return null;
  const tokens = parameters.get("token").split(",").map(Number).filter((t) => t in decisions[state.decision].names);
  const row = Math.max(0, Math.trunc(Number(parameters.get("row")))) || 0;
  return tokens.length ? { row, tokens } : null;
}

function writeAddress() {
  const { decision, words, look, keep, spread, theme, selection } = state;
  const parts = [];
  if (decision) parts.push("text=" + decision);
  if (words) parts.push("words");
  if (look !== "both") parts.push("look=" + look);
  if (keep) parts.push("keep=" + keep);
  if (spread) parts.push("spread");
  if (theme !== "auto") parts.push(theme);
  if (selection) parts.push("token=" + selection.tokens.join(","));
  if (selection && selection.row) parts.push("row=" + selection.row);
  /* A page in a frame's `srcdoc` is at about:srcdoc, and has no address of its own. */
  if (location.protocol !== "about:") history.replaceState(null, "", "#" + parts.join("&"));
}

/* Bring the page into the state that is asked for. */
function render() {
  if (state.theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = state.theme;
  setPressed(document.querySelectorAll("[data-theme-choice]"), (button) => button.dataset.themeChoice === state.theme);
  const { group } = decisions[state.decision];
  articles.forEach((each, i) => { each.hidden = i !== state.decision; });
  continuations.forEach((each, number) => { each.section.hidden = number !== group; });
  document.querySelectorAll(".chooser a").forEach((link, i) => {
    if (i === group) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  });
  /* An image and a token of a continuation have no words to switch to. */
  const granularity = state.words && currentArticle().querySelector("[data-show]") ? "word" : "token";
  currentArticle().querySelectorAll("[data-granularity]").forEach((each) => { each.hidden = each.dataset.granularity !== granularity; });
  setPressed(currentArticle().querySelectorAll("[data-show]"), (button) => button.dataset.show === granularity);
  currentArticle().dataset.look = state.look;
  setPressed(currentArticle().querySelectorAll("[data-look]"), (button) => button.dataset.look === state.look);
  if (currentContinuation()) currentContinuation().show(state.decision);
  renderFlow();
  renderSelection();
}

/* Show another decision of the same page. */
function selectDecision(index) {
  if (index === state.decision) return;
  state.decision = index;
  /* What was followed belongs to the flow of the decision before. */
  state.selection = null;
  writeAddress();
  render();
}

function renderFlow() {
  const section = currentArticle().querySelector(".flow");
  if (!section) return;
  if (!pictures.has(state.decision)) pictures.set(state.decision, newPicture(section));
  const picture = pictures.get(state.decision);
  const keep = state.keep || defaultShare(picture.flow, usualShares);
  const drawn = picture.draw(keep / 100, state.spread);
  setPressed(section.querySelectorAll("[data-keep]"), (button) => Number(button.dataset.keep) === keep);
  setPressed(section.querySelectorAll("[data-width]"), (button) => (button.dataset.width === "spread") === state.spread);
  /* Where all labels fit there is nothing to spread out. */
  section.querySelector("[data-widths]").hidden = !picture.layout.slanted;
  /* Half a percent below what was asked for, the reader is told why: links were pruned. */
  const limit = drawn < keep / 100 - 0.005 ? ", as much as this file holds" : "";
  section.querySelector("[data-drawn]").textContent = percent(drawn) + " of the flow is drawn" + limit + ".";
}

function newPicture(section) {
  const description = section.querySelector("[data-link]");
  return new Picture(section, decisions[state.decision], {
    onHover: (text) => { description.textContent = text; },
    onSelect: (row, tokens) => toggleSelection(row, tokens),
  });
}

/* Follow these nodes; or nothing, where they are followed already. */
function toggleSelection(row, tokens) {
  const { selection } = state;
  const isSame = selection && selection.row === row && String(selection.tokens) === String(tokens);
  state.selection = isSame ? null : { row, tokens };
  writeAddress();
  renderSelection();
}

function renderSelection() {
  const { selection } = state;
  /* A node above row 0 is no token of the text, though it stands in the column of one. */
  const isSelected = (element) => selection !== null && selection.row === 0 && tokensOf(element).some((t) => selection.tokens.includes(t));
  heatMaps().forEach((map) => {
    setPressed(map.querySelectorAll(".t"), isSelected);
    framePatch(map, "chosen", Array.from(map.querySelectorAll("rect.t")).find(isSelected));
  });
  const picture = pictures.get(state.decision);
  if (!picture) return;
  const panel = currentArticle().querySelector("[data-paths]");
  panel.replaceChildren();
  /* The row comes from the address, and may be above the decision. */
  if (!selection || selection.row > picture.layers) picture.clearHighlight();
  else describeTrace(panel, picture, selection, picture.highlight(selection.row, selection.tokens));
}

/* Text goes in as text, never as HTML: names of tokens may hold markup. */
function append(parent, name, text, className) {
  const element = parent.appendChild(document.createElement(name));
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
}

/* Put into words what follows from the selected nodes. */
function describeTrace(panel, picture, selection, trace) {
  const { flow } = decisions[state.decision];
  const isToken = selection.row === 0;
  const name = selection.tokens.map((t) => picture.names[t]).join(" ");
  const line = append(panel, "p");
  append(line, "strong", name);
  if (!trace.start) {
    line.append(" carries no flow here.");
    return;
  }
  const verb = isToken ? " receives " : " passes on, above layer " + selection.row + ", ";
  const share = percent(trace.start / UNITS) + " of the flow. ";
  /* Rounding to whole units can put the sum above its start. */
  const followed = percent(Math.min(1, trace.top / trace.start));
  const scale = trace.scale > 1.5 ? "; its paths are drawn " + trace.scale.toFixed(0) + " times wider" : "";
  line.append(verb + share + followed + " of that is followed up to the decision" + scale + ".");
  append(panel, "p", isToken ? "Its strongest paths, each with its part of that:" : "Tokens it reaches, each with its part of that:", "quiet");
  const list = append(panel, "ol");
  if (isToken) strongestPaths(flow, selection.tokens).forEach((path) => appendPath(list, path, picture, trace.start));
  else appendReached(list, picture, trace);
}

function appendPath(list, path, picture, start) {
  const item = append(list, "li");
  append(item, "span", percent(path.flow / start));
  const steps = append(item, "span", "", "step");
  const top = path.nodes.length - 1;
  append(steps, "bdi", picture.names[path.nodes[0]]);
  for (let i = 1; i <= top; i++) {
    /* Layers in which the path stays with its token would only repeat its name. */
    if (path.nodes[i] === path.nodes[i - 1]) continue;
    /* Spaces of their own, at which a long path may break. */
    steps.append(" ");
    append(steps, "small", "layer " + (top - i + 1) + " →");
    steps.append(" ");
    append(steps, "bdi", picture.names[path.nodes[i]]);
  }
}

function appendReached(list, picture, trace) {
  const reached = Array.from(trace.reached).sort((a, b) => b[1] - a[1]).slice(0, 8);
  for (const [token, amount] of reached) {
    const item = append(list, "li");
    append(item, "span", percent(amount / trace.start));
    append(item, "bdi", picture.names[token]);
  }
}

/* Frame a patch of an image, or none; `kind` is "chosen" or "at", where the pointer is. */
function framePatch(map, kind, patch) {
  map.querySelectorAll(".ring." + kind).forEach((each) => each.remove());
  if (!patch || patch.tagName !== "rect") return;
  /* A light line on a dark edge: one of the two shows on any image. */
  for (const layer of ["edge", "line"]) {
    const frame = document.createElementNS(patch.namespaceURI, "rect");
    for (const attribute of ["x", "y", "width", "height"]) frame.setAttribute(attribute, patch.getAttribute(attribute));
    frame.setAttribute("class", "ring " + kind + " " + layer);
    /* At the end of the SVG, since the patches that follow would cover half of it. */
    patch.ownerSVGElement.append(frame);
  }
}

/* Take an item's title, of a patch an element inside. With scripts the page shows it by itself, and
 * the browser's own tooltip would cover the text. */
function takeTitle(item) {
  const titleElement = item.querySelector("title");
  const title = titleElement ? titleElement.textContent : item.title;
  if (titleElement) titleElement.remove();
  item.removeAttribute("title");
  return title;
}

/* One tab stop for the text or image: arrow keys move between its parts. */
function prepareHeatMap(map) {
  const items = Array.from(map.querySelectorAll(".t"));
  const description = map.parentElement.querySelector("[data-about]");
  const subject = map.dataset.columns ? "The image" : "The text";
  map.setAttribute("role", "group");
  map.setAttribute("aria-label", subject + "; arrow keys move between its parts, Enter follows one");
  const svg = map.querySelector("svg");
  if (svg) {
    /* No longer an "img", whose parts screen readers do not reach. */
    svg.setAttribute("role", "group");
    svg.addEventListener("pointerleave", () => framePatch(map, "at", null));
  }
  items.forEach((item, i) => {
    item.setAttribute("role", "button");
    item.setAttribute("aria-pressed", "false");
    item.dataset.about = takeTitle(item);
    item.setAttribute("aria-label", item.dataset.about);
    item.setAttribute("tabindex", i === 0 ? 0 : -1);
    const showDescription = () => {
      description.textContent = item.dataset.about;
      framePatch(map, "at", item);
    };
    item.addEventListener("focus", () => {
      /* First, since it changes what is to be shown about the token. */
      if (item.dataset.article) selectDecision(Number(item.dataset.article));
      showDescription();
    });
    item.addEventListener("pointerenter", showDescription);
    item.addEventListener("blur", () => framePatch(map, "at", null));
    item.addEventListener("click", () => activate(item));
  });
  map.addEventListener("keydown", (event) => moveInHeatMap(event, items));
}

/* A token that is explained is chosen to be read about; of any other the paths are followed. */
function activate(item) {
  if (item.dataset.article) selectDecision(Number(item.dataset.article));
  else toggleSelection(0, tokensOf(item));
}

function moveInHeatMap(event, items) {
  const index = items.indexOf(document.activeElement);
  /* In a text from right to left the next token is on the left. */
  const forward = getComputedStyle(items[0].parentElement).direction === "rtl" ? -1 : 1;
  const moves = { ArrowLeft: index - forward, ArrowRight: index + forward, Home: 0, End: items.length - 1 };
  const columns = Number(event.currentTarget.dataset.columns);
  if (columns) Object.assign(moves, { ArrowUp: index - columns, ArrowDown: index + columns });
  /* At an edge the key is left to the browser, which scrolls. */
  if (!(moves[event.key] in items)) delete moves[event.key];
  if (event.key === "Enter" || event.key === " ") activate(items[index]);
  else if (event.key in moves) moveFocus(items, index, moves[event.key]);
  else return;
  event.preventDefault();
}

function moveFocus(items, oldIndex, newIndex) {
  items[oldIndex].tabIndex = -1;
  items[newIndex].tabIndex = 0;
  items[newIndex].focus();
}

function addListeners() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.themeChoice) state.theme = button.dataset.themeChoice;
    if (button.dataset.show) state.words = button.dataset.show === "word";
    if (button.dataset.look) state.look = button.dataset.look;
    if (button.dataset.width) state.spread = button.dataset.width === "spread";
    if (button.dataset.keep) state.keep = Number(button.dataset.keep);
    writeAddress();
    render();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.selection) toggleSelection(state.selection.row, state.selection.tokens);
  });
  window.addEventListener("hashchange", () => { readAddress(); render(); });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    /* On phones the height changes whenever the address bar hides: nothing depends on it. */
    if (window.innerWidth !== width) { width = window.innerWidth; render(); }
  });
}

/* Controls that need scripts are hidden by the style sheet until here. */
root.classList.add("scripted");
document.querySelectorAll(".heat").forEach(prepareHeatMap);
readAddress();
addListeners();
render();
