/* The page around the picture: which decision, words or tokens, light or dark, and what is followed.
 * Everything can be asked for in the address: #text=2&token=5&tokens&keep=90&spread&layers&dark,
 * and of an image #look=scores. */
"use strict";

const root = document.documentElement;
const decisions = JSON.parse(document.getElementById("data").textContent);
/* Equal names carry their places in the picture: "is₂". */
for (const decision of decisions) {
  decision.labels = decision.names.map((name, t) => name + decision.places[t]);
  decision.words = decision.words && decision.words.map(([tokens, name, place]) => [tokens, name + place]);
}
const articles = Array.from(document.querySelectorAll("article"));
/* Pictures by index of the decision, each made when first shown: a hidden article has no width. */
const pictures = new Map();
const state = {
  decision: 0, tokens: false, look: "both", keep: null, spread: false, unfolded: false, theme: "auto", selection: null,
};

/* Shares of the flow, in percent, that can be drawn; those near all of it only if asked for. */
const allShares = [25, 50, 80, 90, 95];
const usualShares = allShares.slice(0, 3);

const setPressed = (buttons, isPressed) => buttons.forEach((button) => button.setAttribute("aria-pressed", String(isPressed(button))));
const currentArticle = () => articles[state.decision];
const continuations = new Map(Array.from(document.querySelectorAll(".written"), (section) =>
  [Number(section.dataset.group), new ContinuationView(section, decisions, { onSelect: selectDecision, onPoint: pointOut })]));
const currentContinuation = () => continuations.get(decisions[state.decision].group);
/* The side of a comparison whose flow is shown. */
const currentSide = () => document.querySelector('[data-side="' + state.decision + '"]');
const comparisons = Array.from(document.querySelectorAll(".comparison"));
/* A continuation's text, a side of a comparison, and the decision itself. */
const partsInSight = () => [currentContinuation()?.section, currentSide(), currentArticle()].filter(Boolean);
const heatMaps = () => partsInSight().flatMap((part) => Array.from(part.querySelectorAll(".heat")));

function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  /* Links of the page, which also work without scripts, name an article. */
  const anchor = /^#text-(\d+)$/.exec(location.hash);
  const index = Number(anchor ? anchor[1] : parameters.get("text") || 0);
  /* An address may be of another page or typed by hand: what does not fit falls back to the default. */
  state.decision = decisions[index] ? index : 0;
  state.tokens = parameters.has("tokens");
  state.keep = allShares.find((share) => share === Number(parameters.get("keep"))) || null;
  state.spread = parameters.has("spread");
  state.unfolded = parameters.has("layers");
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

function address() {
  const { decision, tokens, look, keep, spread, unfolded, theme, selection } = state;
  const parts = [];
  if (decision) parts.push("text=" + decision);
  if (tokens) parts.push("tokens");
  if (look !== "both") parts.push("look=" + look);
  if (keep) parts.push("keep=" + keep);
  if (spread) parts.push("spread");
  if (unfolded) parts.push("layers");
  if (theme !== "auto") parts.push(theme);
  if (selection) parts.push("token=" + selection.tokens.join(","));
  if (selection && selection.row) parts.push("row=" + selection.row);
  return "#" + parts.join("&");
}

function writeAddress() {
  /* A page in a frame's `srcdoc` is at about:srcdoc, and has no address of its own. */
  if (location.protocol !== "about:") history.replaceState(null, "", address());
}

/* Bring the page into the state that is asked for. */
function render() {
  if (state.theme === "auto") delete root.dataset.theme;
  else root.dataset.theme = state.theme;
  setPressed(document.querySelectorAll("[data-theme-choice]"), (button) => button.dataset.themeChoice === state.theme);
  const { group } = decisions[state.decision];
  articles.forEach((each, i) => { each.hidden = i !== state.decision; });
  continuations.forEach((each, number) => { each.section.hidden = number !== group; });
  comparisons.forEach((each) => { each.hidden = Number(each.dataset.group) !== group; });
  document.querySelectorAll(".chooser a").forEach((link, i) => setCurrent(link, i === group));
  document.querySelectorAll("[data-switch]").forEach((link) => setCurrent(link, Number(link.dataset.switch) === state.decision));
  const comparison = comparisons.find((each) => !each.hidden);
  for (const part of comparison ? [comparison, currentArticle()] : [currentArticle()]) {
    part.querySelectorAll("[data-granularity]").forEach((each) => { each.hidden = each.dataset.granularity !== granularity(); });
    setPressed(part.querySelectorAll("[data-show]"), (button) => button.dataset.show === granularity());
  }
  currentArticle().dataset.look = state.look;
  setPressed(currentArticle().querySelectorAll("[data-look]"), (button) => button.dataset.look === state.look);
  if (currentContinuation()) currentContinuation().show(state.decision);
  renderFlow();
  renderSelection();
}

/* An image and a token of a continuation have no words to switch to. */
const granularity = () => (!state.tokens && currentArticle().querySelector("[data-show]") ? "word" : "token");

function setCurrent(link, isCurrent) {
  if (isCurrent) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
}

/* Show another decision of the same page. */
function selectDecision(index) {
  if (index === state.decision) return;
  /* What is followed stays followed under another decision about the same tokens. */
  if (String(decisions[index].names) !== String(decisions[state.decision].names)) state.selection = null;
  state.decision = index;
  writeAddress();
  render();
}

/* Show the next or the previous decision about the same text, if there is one. */
function stepDecision(step) {
  const next = state.decision + step;
  if (decisions[next] && decisions[next].group === decisions[state.decision].group) selectDecision(next);
}

function renderFlow() {
  const section = currentArticle().querySelector(".flow");
  if (!section) return;
  if (!pictures.has(state.decision)) pictures.set(state.decision, newPicture(section));
  const picture = pictures.get(state.decision);
  const keep = state.keep || defaultShare(picture.tokenFlow, usualShares);
  const asWords = granularity() === "word";
  const drawn = picture.draw(keep / 100, { asWords, spread: state.spread, unfolded: state.unfolded });
  setPressed(section.querySelectorAll("[data-keep]"), (button) => Number(button.dataset.keep) === keep);
  setPressed(section.querySelectorAll("[data-width]"), (button) => (button.dataset.width === "spread") === state.spread);
  setPressed(section.querySelectorAll(".bar [data-layers]"), (button) => (button.dataset.layers === "all") === state.unfolded);
  /* Where all labels fit there is nothing to spread out, and where all layers cross none to unfold. */
  section.querySelector("[data-widths]").hidden = !picture.layout.slanted;
  section.querySelector("[data-folds]").hidden = !picture.folds;
  /* Half a percent below what was asked for, the reader is told why: links were pruned. */
  const limit = drawn < keep / 100 - 0.005 ? ", as much as this file holds" : "";
  section.querySelector("[data-drawn]").textContent = percent(drawn) + " of the flow is drawn" + limit + ".";
}

function newPicture(section) {
  makeDraggable(section.querySelector(".canvas"));
  return new Picture(section, decisions[state.decision], {
    onHover: (text, element, tokens) => {
      showTooltip(text, element);
      pointOut(tokens || []);
    },
    onSelect: (row, tokens) => toggleSelection(row, tokens),
  });
}

/* Show in text, ranking, matrix and picture where some tokens are; none of them for no tokens. */
function pointOut(tokens) {
  const isAmong = (element) => tokensOf(element).some((t) => tokens.includes(t));
  for (const part of partsInSight()) {
    part.querySelectorAll(".heat .t, .ranking tr[data-t], thead th[data-t]").forEach((each) => each.classList.toggle("lit", isAmong(each)));
  }
  pictures.get(state.decision)?.pointOut(tokens);
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
  document.querySelectorAll(".side .t").forEach((each) => each.setAttribute("aria-pressed", "false"));
  /* A node above row 0 is no token of the text, though it stands in the column of one. */
  const isSelected = (element) => selection !== null && selection.row === 0 && tokensOf(element).some((t) => selection.tokens.includes(t));
  heatMaps().forEach((map) => {
    setPressed(map.querySelectorAll(".t"), isSelected);
    framePatch(map, "chosen", Array.from(map.querySelectorAll("rect.t")).find(isSelected));
  });
  currentArticle().querySelectorAll(".ranking tr[data-t]").forEach((row) => row.classList.toggle("chosen", isSelected(row)));
  const picture = pictures.get(state.decision);
  if (!picture) return;
  const panel = currentArticle().querySelector("[data-paths]");
  panel.replaceChildren();
  /* The row comes from the address, and may be above the decision. */
  if (!selection || selection.row > picture.layers) picture.clearHighlight();
  else describeTrace(panel, picture, selection, picture.highlight(selection.row, selection.tokens));
}

/* A token that is explained is chosen to be read about; of any other the paths are followed. */
function activate(item) {
  const side = item.closest("[data-side]");
  const isOther = side && Number(side.dataset.side) !== state.decision;
  if (isOther) {
    /* The same word of the other side is followed there, and not let go. */
    state.selection = null;
    selectDecision(Number(side.dataset.side));
  }
  if (item.dataset.article) selectDecision(Number(item.dataset.article));
  else toggleSelection(0, tokensOf(item));
}

function onButton(button) {
  if (button.dataset.export) return exportAs(button.dataset.export);
  if (button.dataset.step) return stepDecision(Number(button.dataset.step));
  if (button.dataset.zoom) return pictures.get(state.decision)?.zoomBy(Number(button.dataset.zoom));
  if (button.dataset.themeChoice) state.theme = button.dataset.themeChoice;
  if (button.dataset.show) state.tokens = button.dataset.show === "token";
  if (button.dataset.look) state.look = button.dataset.look;
  if (button.dataset.width) state.spread = button.dataset.width === "spread";
  if (button.dataset.layers) state.unfolded = button.dataset.layers === "all";
  if (button.dataset.keep) state.keep = Number(button.dataset.keep);
  writeAddress();
  render();
}

function onClick(event) {
  const button = event.target.closest("button");
  if (button) return onButton(button);
  const link = event.target.closest("[data-switch]");
  if (link) {
    /* Not by the address, which would scroll to the other article. */
    event.preventDefault();
    const hadFocus = document.activeElement === link;
    const place = link.closest(".classes") ? ".classes" : ".choices";
    selectDecision(Number(link.dataset.switch));
    /* The link itself is hidden now, its counterpart is in sight. */
    if (hadFocus) currentArticle().querySelector(place + " [aria-current]")?.focus();
    return;
  }
  const row = event.target.closest(".ranking tr[data-t]");
  if (row) toggleSelection(0, tokensOf(row));
}

function onKeydown(event) {
  if (event.key === "Escape" && state.selection) toggleSelection(state.selection.row, state.selection.tokens);
  /* Arrow keys belong to what has the focus; nothing has it at first. */
  const isFree = event.target === document.body || event.target === root;
  if (!isFree || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") stepDecision(-1);
  if (event.key === "ArrowRight") stepDecision(1);
}

/* Leave only those texts in the list that hold what is typed. */
function filterTexts(field) {
  const wanted = field.value.toLocaleLowerCase();
  let shown = 0;
  document.querySelectorAll(".chooser li").forEach((item) => {
    item.hidden = !item.textContent.toLocaleLowerCase().includes(wanted);
    shown += !item.hidden;
  });
  document.querySelector("[data-found]").textContent = wanted ? shown + " found" : "";
}

function addListeners() {
  document.addEventListener("click", onClick);
  document.addEventListener("keydown", onKeydown);
  document.querySelectorAll(".ranking tr[data-t]").forEach((row) => {
    row.addEventListener("pointerenter", () => pointOut(tokensOf(row)));
    row.addEventListener("pointerleave", () => pointOut([]));
  });
  const field = document.querySelector("[data-filter]");
  if (field) field.addEventListener("input", () => filterTexts(field));
  window.addEventListener("hashchange", () => { readAddress(); render(); });
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    /* On phones the height changes whenever the address bar hides: nothing depends on it. */
    if (window.innerWidth !== width) { width = window.innerWidth; render(); }
  });
}

/* Controls that need scripts are hidden by the style sheet until here. */
root.classList.add("scripted");
document.querySelectorAll(".heat").forEach((map) => prepareHeatMap(map, {
  onPoint: pointOut,
  onFocus: (item) => { if (item.dataset.article) selectDecision(Number(item.dataset.article)); },
  onChoose: activate,
}));
readAddress();
addListeners();
render();
/* A long list begins at the text that is shown. Not `scrollIntoView`, which scrolls the page too. */
const current = document.querySelector(".chooser [aria-current]");
if (current) current.closest(".chooser").scrollTop = current.offsetTop - current.closest(".chooser").offsetTop - 60;
