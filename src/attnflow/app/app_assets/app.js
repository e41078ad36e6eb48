"use strict";

/* All text from the server goes into the page by textContent: a text, a label or the name of a file may
 * hold markup. Results are shown in a sandboxed frame, whose scripts cannot reach this page. */

const byId = (id) => document.getElementById(id);
const OTHER = "\u0000other"; // no name of a model
const MARKS = { same: "span", added: "ins", removed: "del" };
const EXAMPLES = {
  "text-classification": [
    "although this dog is not cute, it is very smart.",
    "the plot is thin, but the actors are a joy to watch.",
    "i expected to love it, and i was bored to tears.",
  ],
  "text-generation": [
    "The capital of France is",
    "When Mary and John went to the store, John gave a drink to",
    "The opposite of hot is",
  ],
  "fill-mask": ["Paris is the [MASK] of France."],
};

const state = {
  described: {}, // what is known of each model, by its name
  model: "",
  results: [], // the newest first
  shown: null, // name of the result in the frame
  compared: null, // name of the result next to it
  job: null, // number of what is being done
  runs: 0, // how often something was begun: an answer to an earlier one comes too late
  unwanted: 0, // the run that was cancelled before its job was known
  opened: null, // the result whose request is being put back into the form
  choice: null, // {text, target, shown}: a token that was chosen for one text, and the field's words for it
  image: null, // {name, data in base64}
  theme: "auto",
};

/* Server */

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the app does not answer: it may have been stopped. Your text stays here.");
  }
  const answer = await response.json().catch(() => ({ error: "the app gave no answer that this page can read." }));
  if (!response.ok) throw new Error(answer.error || "the app answered with an error.");
  return answer;
}

/* Follow a job to its end, and return its outcome; null where it was cancelled. */
async function follow(number) {
  let version = -1;
  for (;;) {
    const news = await ask("/jobs/" + number + "?after=" + version);
    version = news.version;
    if (news.state === "done") return news.outcome;
    if (news.state === "cancelled") return null;
    if (news.state === "failed") throw new Error(news.words);
    if (state.job === number) showWork(news.words || "starting", news.state === "running" && news.part > 0 ? news.part : null);
  }
}

/* Work and its problems */

function showWork(words, part) {
  byId("work").hidden = false;
  byId("cancel").hidden = false;
  if (part === null) byId("bar").removeAttribute("value");
  else byId("bar").value = part;
  byId("status").textContent = words;
}

function endWork(words) {
  state.job = null;
  byId("work").hidden = true;
  byId("cancel").hidden = true;
  byId("status").textContent = words || "";
}

function showProblem(error) {
  const words = error ? error.message : "";
  byId("problem").hidden = !words;
  /* A name at the beginning stays as it is. */
  byId("problem-words").textContent = words.replace(/^[a-z]+(?=[ ,])/, (word) => word.charAt(0).toUpperCase() + word.slice(1));
  /* The message names the fields that help. */
  byId("cut").hidden = !/ be cut off/.test(words);
  byId("merge").hidden = !/“Units of the flow”/.test(words);
}

/* Run a job; one that runs already makes room. Returns its outcome, null where there is none. */
async function run(path, body) {
  if (state.job !== null) stop(state.job);
  showProblem(null);
  const started = performance.now();
  const turn = ++state.runs;
  const isLate = () => turn !== state.runs;
  state.job = null;
  showWork("sending", null);
  try {
    const { job } = await ask(path, body);
    if (isLate()) {
      stop(job);
      return null;
    }
    state.job = job;
    if (state.unwanted === turn) cancel();
    const outcome = await follow(job);
    if (isLate()) return null;
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    endWork(outcome ? "Done in " + seconds + " s." : "Cancelled.");
    return outcome;
  } catch (error) {
    if (isLate()) return null;
    endWork();
    showProblem(error);
    return null;
  }
}

const stop = (job) => ask("/jobs/" + job + "/cancel", {}).catch(() => {});

async function cancel() {
  byId("status").textContent = "stopping";
  if (state.job === null) {
    state.unwanted = state.runs;
    return;
  }
  await ask("/jobs/" + state.job + "/cancel", {}).catch(showProblem);
}

/* Model */

async function chooseModel(name) {
  const before = state.model;
  if (name !== before) dropChoice();
  state.model = name;
  if (!(name in state.described)) {
    byId("about-model").textContent = "";
    const outcome = await run("/models", { model: name });
    if (outcome) state.described[name] = outcome.model;
    else if (before in state.described && state.model === name) {
      /* The reason is shown; what was there can go on. */
      byId("model").value = state.model = before;
    }
  }
  saveDraft();
  applyModel();
}

function applyModel() {
  const model = state.described[state.model];
  if (!model) return;
  const about = [model.task.replaceAll("-", " ")];
  if (model.labels.length) about.push(model.labels.length + " classes");
  if (model.limit) about.push("at most " + model.limit.toLocaleString("en") + " tokens");
  byId("about-model").textContent = about.join(" · ");
  const hasClasses = model.labels.length > 0;
  const chooses = hasClasses || model.writes || model.task === "fill-mask" || model.task === "question-answering";
  byId("target-field").hidden = !chooses;
  byId("target-class").hidden = !hasClasses;
  byId("target").hidden = hasClasses;
  byId("target").placeholder = model.task === "question-answering" ? "the likeliest answer" : "the likeliest token";
  const select = byId("target-class");
  const kept = select.value;
  select.replaceChildren(option("", "the predicted class"), ...model.labels.map((label) => option(label, label)));
  select.value = model.labels.includes(kept) ? kept : "";
  const show = { pair: model.has_pair, chat: model.has_chat, bos: model.has_bos, "new-tokens": model.writes, position: model.has_position, against: chooses, long: model.reads_text, coarsen: model.reads_text };
  for (const [name, isShown] of Object.entries(show)) byId(name + "-field").hidden = !isShown;
  byId("text").hidden = !model.reads_text;
  byId("text-label").textContent = model.reads_text ? (model.writes ? "Prompt" : "Text") : "Image";
  byId("add-picture").hidden = !model.reads_images;
  byId("choices").replaceChildren();
  showPicture();
  const examples = (EXAMPLES[model.task] || []).map((text) => button(text, () => { byId("text").value = text; explain(); }));
  byId("examples").replaceChildren(...(model.reads_text && !model.reads_images ? examples : []));
  if (!byId("text").value && !state.shown && EXAMPLES[model.task]) byId("text").value = EXAMPLES[model.task][0];
}

/* Request */

function asked() {
  const model = state.described[state.model] || {};
  const is = (name) => !byId(name + "-field").hidden;
  const target = byId("target-field").hidden ? "" : model.labels && model.labels.length ? byId("target-class").value : isChosen() ? state.choice.target : byId("target").value;
  const position = byId("position").value;
  return {
    model: state.model,
    text: model.reads_text === false ? "" : byId("text").value,
    pair: is("pair") ? byId("pair").value : "",
    is_chat: is("chat") && byId("is-chat").checked,
    system: is("chat") && byId("is-chat").checked ? byId("system").value : "",
    target,
    against: is("against") ? byId("against").value : "",
    tensor: byId("tensor").value,
    coarsen: !is("coarsen") ? "" : Number(byId("coarsen").value) || byId("coarsen").value,
    bos: is("bos") && byId("bos").checked,
    truncate: is("long") && byId("long").value === "truncate",
    position: is("position") && position !== "" ? Number(position) : null,
    new_tokens: is("new-tokens") ? Number(byId("new-tokens").value) : 0,
  };
}

/* Choose a target by its text. The fields show it, but cannot give back every one: an input has no line breaks. */
function choose(target, name) {
  const field = byId("target");
  field.value = target;
  if (field.value !== target) field.value = name;
  const select = byId("target-class");
  if (target && !Array.from(select.options).some((each) => each.value === target)) select.append(option(target, name));
  select.value = target;
  state.choice = { text: byId("text").value, target, shown: field.value };
}

const isChosen = () => state.choice !== null && byId("target").value === state.choice.shown;

function dropChoice() {
  if (isChosen()) byId("target").value = "";
  state.choice = null;
}

async function explain() {
  saveDraft();
  if (byId("form").reportValidity() === false) return;
  /* A token is chosen for the text that it may follow: another text begins with its own. */
  if (state.choice && byId("text").value !== state.choice.text) dropChoice();
  const request = asked();
  if (state.image && readsImages()) request.image = state.image;
  const before = state.shown;
  const outcome = await run("/jobs", request);
  if (!outcome) return;
  state.results.unshift(outcome);
  show(outcome, before);
  /* On a phone it is below the form. */
  byId("result").scrollIntoView({ behavior: "smooth", block: "start" });
  refresh();
}

/* Put a result's request back into the form, to go on from there. The model comes first: its classes are
 * among the fields. */
async function fill(result) {
  const { asked: request } = result;
  state.opened = result;
  if (request.model !== state.model) {
    await selectModel(request.model);
    /* It cannot be loaded any more, or something else was chosen. */
    if (state.model !== request.model || state.opened !== result) return;
    if (state.shown === result.name) showChoices(result);
  }
  byId("text").value = request.text;
  byId("pair").value = request.pair;
  byId("system").value = request.system;
  byId("is-chat").checked = request.is_chat;
  byId("system").hidden = !request.is_chat;
  choose(request.target, nameOf(result, request.target));
  /* One that was typed stays for other texts. */
  if (byId("target").value === request.target) state.choice = null;
  byId("against").value = request.against;
  byId("tensor").value = request.tensor;
  byId("coarsen").value = request.coarsen;
  byId("bos").checked = request.bos;
  byId("long").value = request.truncate ? "truncate" : "refuse";
  byId("position").value = request.position === null ? "" : request.position;
  byId("new-tokens").value = request.new_tokens;
  setImage(null);
  if (result.image) fetchImage(result);
}

/* A choice in words that can be seen. */
function nameOf(result, target) {
  const found = result.summary.choices.find(([text]) => text === target);
  return found ? found[1] : target.replace(/[\r\n]+/g, "⏎");
}

/* Result */

async function show(result, before) {
  state.shown = result.name;
  state.compared = null;
  byId("empty").hidden = true;
  byId("toolbar").hidden = false;
  const { summary } = result;
  setFrame("/results/" + result.name);
  byId("shown").replaceChildren(summary.model + " · " + summary.tokens + (result.image && !result.asked.text ? " patches" : " tokens"));
  for (const link of document.querySelectorAll("[data-form]")) link.href = "/results/" + result.name + "/as/" + link.dataset.form;
  byId("warnings").hidden = result.warnings.length === 0;
  byId("warnings").replaceChildren(...result.warnings.map((words) => element("li", words)));
  showChoices(result);
  showHistory();
  byId("changes").hidden = true;
  if (before && before !== result.name) {
    const { changes } = await ask("/results/" + result.name + "/summary?before=" + before).catch(() => ({ changes: null }));
    if (state.shown === result.name && changes) showChanges(changes);
  }
}

function compare(other) {
  state.compared = other.name;
  setFrame("/compare/" + other.name + "/" + state.shown);
  byId("shown").replaceChildren("Next to “" + other.summary.text + "” ", button("Only this one", () => show(find(state.shown), null)));
}

function setFrame(path) {
  const frame = byId("frame");
  frame.hidden = false;
  frame.dataset.path = path;
  frame.classList.add("loading");
  frame.src = path + (state.theme === "auto" ? "" : "#" + state.theme);
}

/* The likeliest choices: each is a click away from being explained. */
function showChoices(result) {
  const { choices, target } = result.summary;
  byId("choices").replaceChildren(...choices.map(([text, name, certainty]) => {
    const chip = button(name + " ", () => {
      choose(text, name);
      explain();
    });
    chip.append(element("small", certainty));
    chip.setAttribute("aria-pressed", String(text === target));
    return chip;
  }));
}

function showChanges(changes) {
  byId("changes").hidden = false;
  const edited = byId("edited");
  edited.hidden = !changes.is_edited;
  edited.replaceChildren(...changes.text.map(({ text, kind }) => element(MARKS[kind], text)));
  const rows = [
    ...changes.choices.map((each) => [each.label, each.before, each.after, "", "same"]),
    ...changes.moved.map((each) => [each.text, each.before, each.after, each.change > 0 ? "up" : "", each.kind]),
  ];
  byId("moved").tBodies[0].replaceChildren(...rows.map(([name, was, is, side, kind], i) => {
    const row = document.createElement("tr");
    const head = element("th", "");
    head.append(element(MARKS[kind], name));
    if (i < changes.choices.length) head.className = "choice";
    row.append(head, element("td", was === null ? "–" : was), element("td", "→"), element("td", is === null ? "–" : is));
    if (side) row.lastChild.className = side;
    return row;
  }));
  const [was, is] = changes.about;
  const about = was === is ? "shares of “" + is + "”" : "shares of “" + was + "” before, of “" + is + "” now";
  byId("unchanged").textContent = changes.moved.length ? "Bold: probabilities. Others: " + about + "." : "No word's share changed.";
}

function showHistory() {
  byId("earlier").hidden = state.results.length === 0;
  byId("history").replaceChildren(...state.results.map((result) => {
    const { summary } = result;
    const item = document.createElement("li");
    if (result.name === state.shown) item.setAttribute("aria-current", "true");
    const open = button("", () => { const before = state.shown; fill(result); show(result, before); });
    open.className = "open";
    open.append(element("span", summary.text), element("small", summary.label + " " + summary.certainty));
    const tools = element("span", "");
    tools.className = "tools";
    if (state.shown && result.name !== state.shown) {
      const next = button("Compare", () => compare(result));
      next.className = "compare";
      tools.append(next);
    }
    const away = button("✕", () => forget(result));
    away.setAttribute("aria-label", "Remove");
    tools.append(away);
    item.append(open, tools);
    return item;
  }));
}

async function forget(result) {
  await ask("/results/" + result.name + "/forget", {}).catch(showProblem);
  state.results = state.results.filter((each) => each !== result);
  if (state.shown === result.name) {
    state.shown = null;
    byId("frame").hidden = true;
    byId("toolbar").hidden = true;
    byId("warnings").hidden = true;
    byId("changes").hidden = true;
    byId("empty").hidden = false;
  }
  showHistory();
}

const find = (name) => state.results.find((each) => each.name === name);

/* The server forgets the oldest ones. */
async function refresh() {
  const answer = await ask("/state").catch(() => null);
  if (!answer) return;
  state.results = answer.results.reverse();
  state.described = { ...state.described, ...answer.described };
  showHistory();
  return answer;
}

/* Image */

function setImage(image, source) {
  state.image = image;
  showPicture();
  if (byId("preview").src) URL.revokeObjectURL(byId("preview").src);
  byId("preview").removeAttribute("src");
  if (image === null) return;
  byId("preview").src = URL.createObjectURL(source);
  byId("picture-name").textContent = image.name;
}

const readsImages = () => (state.described[state.model] || {}).reads_images === true;

/* For a model of texts an image is set aside. */
function showPicture() {
  byId("picture").hidden = state.image === null || !readsImages();
}

async function takeFile(file) {
  if (!file) return;
  const model = state.described[state.model];
  if (!file.type.startsWith("image/")) return showProblem(new Error("“" + file.name + "” is not an image: drop an image, or paste the text of the file."));
  if (model && !model.reads_images) return showProblem(new Error("this model reads texts, not images: choose one that reads images (attnflow app --model ...)."));
  if (file.size > 11 << 20) return showProblem(new Error("“" + file.name + "” has " + (file.size / 1048576).toFixed(0) + " MB, and the app takes 11 MB: make it smaller."));
  showProblem(null);
  const address = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(file);
  });
  setImage({ name: file.name, data: address.slice(address.indexOf(",") + 1) }, file);
}

async function fetchImage(result) {
  const response = await fetch("/results/" + result.name + "/image").catch(() => null);
  if (response && response.ok) takeFile(new File([await response.blob()], result.image, { type: "image/*" }));
}

/* Elements */

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function button(text, onClick) {
  const made = element("button", text);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

function option(value, text) {
  const made = element("option", text);
  made.value = value;
  return made;
}

/* Draft: a reload loses nothing that was typed. */

function saveDraft() {
  sessionStorage.setItem("draft", JSON.stringify({ model: state.model, text: byId("text").value }));
}

function readDraft() {
  try {
    return JSON.parse(sessionStorage.getItem("draft")) || {};
  } catch {
    return {};
  }
}

function setTheme(theme) {
  state.theme = theme;
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  for (const each of document.querySelectorAll("[data-theme-choice]")) each.setAttribute("aria-pressed", String(each.dataset.themeChoice === theme));
  if (!byId("frame").hidden) setFrame(byId("frame").dataset.path);
}

function selectModel(name) {
  const select = byId("model");
  if (!Array.from(select.options).some((each) => each.value === name)) select.prepend(option(name, name));
  select.value = name;
  byId("other-model").hidden = true;
  return chooseModel(name);
}

function addListeners() {
  byId("frame").addEventListener("load", () => byId("frame").classList.remove("loading"));
  byId("form").addEventListener("submit", (event) => { event.preventDefault(); explain(); });
  byId("form").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "TEXTAREA" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    explain();
  });
  byId("cancel").addEventListener("click", cancel);
  byId("cut").addEventListener("click", () => { byId("long").value = "truncate"; explain(); });
  byId("merge").addEventListener("click", () => { byId("coarsen").value = "word"; explain(); });
  byId("text").addEventListener("input", saveDraft);
  byId("is-chat").addEventListener("change", () => { byId("system").hidden = !byId("is-chat").checked; });
  byId("model").addEventListener("change", () => {
    const name = byId("model").value;
    byId("other-model").hidden = name !== OTHER;
    if (name !== OTHER) chooseModel(name);
    else byId("model-name").focus();
  });
  const load = () => { if (byId("model-name").value.trim()) selectModel(byId("model-name").value.trim()); };
  byId("load").addEventListener("click", load);
  byId("model-name").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); load(); } });
  byId("file").addEventListener("change", () => { takeFile(byId("file").files[0]); byId("file").value = ""; });
  byId("remove-picture").addEventListener("click", () => setImage(null));
  const drop = byId("drop");
  document.addEventListener("dragover", (event) => { if (event.dataTransfer.types.includes("Files")) { event.preventDefault(); drop.classList.add("over"); } });
  document.addEventListener("dragleave", () => drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    takeFile(event.dataTransfer.files[0]);
  });
  byId("text").addEventListener("paste", (event) => {
    const file = event.clipboardData.files[0];
    if (!file) return;
    event.preventDefault();
    takeFile(file);
  });
  for (const each of document.querySelectorAll("[data-theme-choice]")) each.addEventListener("click", () => setTheme(each.dataset.themeChoice));
}

async function begin() {
  addListeners();
  setTheme(localStorage.getItem("theme") || "auto");
  const draft = readDraft();
  byId("text").value = draft.text || "";
  let answer;
  try {
    answer = await ask("/state");
  } catch (error) {
    showProblem(error);
    return;
  }
  state.results = answer.results.reverse();
  state.described = answer.described;
  byId("model").replaceChildren(...answer.models.map((name) => option(name, name)));
  if (answer.takes_any) byId("model").append(option(OTHER, "another …"));
  showHistory();
  await selectModel(answer.takes_any || answer.models.includes(draft.model) ? draft.model || answer.models[0] : answer.models[0]);
  byId("text").focus();
}

begin();
