/* The table of all texts: search, filters, sorting, pages; a row opens its explanation. */
"use strict";

const root = document.documentElement;
const about = JSON.parse(document.getElementById("data").textContent);
const place = document.querySelector("[data-table]");
const dialog = document.querySelector("dialog");
const details = new Details(about.block);
const SIZES = [25, 50, 100];
const PAUSE = 180; // milliseconds without a key before a search
const state = { search: "", filters: new Map(), sort: null, page: 0, size: SIZES[0], opened: -1 };
let rows = null; // of RowSet
let found = new Uint32Array(0); // rows in their order
const column = (name) => about.columns.findIndex((each) => each.name === name);

const isNumber = (each) => each.kind === "number" || each.kind === "percent";
const isSeen = (each) => !["error"].includes(each.name);

function shownValue(index, row) {
  const value = rows.value(index, row);
  if (value === null) return "";
  const { kind, name } = about.columns[index];
  if (kind === "percent") return percentOf(value);
  if (kind === "number") return name === "evenness" ? value.toFixed(2) : String(value);
  return visible(value);
}

/* The controls above the table. */
function buildFinder() {
  const finder = make("div", "finder");
  const search = make("input", "");
  search.type = "search";
  search.dataset.role = "search";
  search.placeholder = "Search " + about.rows.toLocaleString("en") + " texts";
  finder.append(labelled("Search", search, "search"));
  search.addEventListener("input", later(() => { state.search = search.value.trim(); begin(); }));
  about.columns.forEach((each, index) => {
    if (each.kind !== "name" || !each.values.length) return;
    finder.append(labelled(each.title, each.values.length > about.choices ? typedFilter(index) : choice(index)));
  });
  const reset = make("button", "", "Reset");
  reset.type = "button";
  reset.dataset.role = "reset";
  reset.addEventListener("click", () => { clear(); begin(); });
  finder.append(reset);
  return finder;
}

function labelled(name, control, className) {
  return make("label", className || "", visible(name), control);
}

function choice(index) {
  const select = make("select", "");
  select.dataset.filter = about.columns[index].name;
  const add = (text, value) => { const option = make("option", "", text); option.value = value; select.append(option); };
  add("any", "");
  about.columns[index].values.forEach((name, i) => add(visible(name) || "(empty)", i));
  if (rows.columns[index].data.includes(-1)) add("(none)", -1);
  select.addEventListener("change", () => { setFilter(index, select.value === "" ? null : Number(select.value)); begin(); });
  return select;
}

function typedFilter(index) {
  const input = make("input", "");
  input.type = "search";
  input.dataset.filter = about.columns[index].name;
  input.addEventListener("input", later(() => { setFilter(index, input.value.trim() || null); begin(); }));
  return input;
}

function setFilter(index, wanted) {
  if (wanted === null) state.filters.delete(index);
  else state.filters.set(index, wanted);
}

function clear() {
  state.search = "";
  state.filters.clear();
  place.querySelectorAll("input, [data-filter]").forEach((each) => { each.value = ""; });
}

/* Call a function once nothing was typed for a while. */
function later(action) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(action, PAUSE); };
}

function buildTable() {
  const head = make("tr", "");
  about.columns.forEach((each, index) => {
    if (!isSeen(each)) return;
    const button = make("button", "", visible(each.title));
    button.type = "button";
    button.addEventListener("click", () => sortBy(index));
    const cell = make("th", each.name + (isNumber(each) ? " number" : ""), button);
    cell.scope = "col";
    cell.dataset.sort = each.name;
    cell.setAttribute("aria-sort", "none");
    head.append(cell);
  });
  const table = make("table", "rows-table", make("thead", "", head), make("tbody", ""));
  const region = make("div", "wide", table);
  region.tabIndex = 0;
  region.setAttribute("role", "region");
  region.setAttribute("aria-label", "All texts");
  return region;
}

/* Ascending, descending, and the order of the run again. Numbers begin with the largest. */
function sortBy(index) {
  const first = isNumber(about.columns[index]);
  const { sort } = state;
  if (!sort || sort.column !== index) state.sort = { column: index, descending: first };
  else state.sort = sort.descending === first ? { column: index, descending: !first } : null;
  begin();
}

function buildPager() {
  const pager = make("div", "pager");
  const status = make("span", "");
  status.setAttribute("role", "status");
  pager.append(status);
  for (const [name, text, step] of [["first", "« First", () => 0], ["previous", "‹ Previous", () => state.page - 1], ["next", "Next ›", () => state.page + 1], ["last", "Last »", () => pages() - 1]]) {
    const button = make("button", "", text);
    button.type = "button";
    button.dataset.page = name;
    button.addEventListener("click", () => { state.page = step(); render(); });
    pager.append(button);
  }
  const select = make("select", "");
  SIZES.forEach((size) => { const option = make("option", "", size + " a page"); option.value = size; select.append(option); });
  select.setAttribute("aria-label", "Rows of a page");
  select.addEventListener("change", () => { state.size = Number(select.value); state.page = 0; render(); });
  pager.append(select);
  return pager;
}

const pages = () => Math.max(1, Math.ceil(found.length / state.size));

/* Choose the rows anew, and show the first page of them. */
function begin() {
  found = rows.chosen(state);
  state.page = 0;
  render();
}

function render() {
  const from = state.page * state.size;
  const seen = Array.from(found.subarray(from, from + state.size));
  place.querySelector("tbody").replaceChildren(...seen.map((row, i) => rowOf(row, from + i)));
  place.querySelectorAll("[data-sort]").forEach((cell) => {
    const isSorted = state.sort && about.columns[state.sort.column].name === cell.dataset.sort;
    cell.setAttribute("aria-sort", !isSorted ? "none" : state.sort.descending ? "descending" : "ascending");
  });
  const count = (number) => number.toLocaleString("en");
  const range = found.length ? count(from + 1) + "–" + count(Math.min(from + state.size, found.length)) + " of " + count(found.length) : "No text";
  place.querySelector("[role=status]").textContent = range + (found.length < about.rows ? ", out of " + count(about.rows) : "");
  const ends = { first: state.page === 0, previous: state.page === 0, next: state.page >= pages() - 1, last: state.page >= pages() - 1 };
  place.querySelectorAll("[data-page]").forEach((button) => { button.disabled = ends[button.dataset.page]; });
}

function rowOf(row, position) {
  const line = make("tr", "");
  about.columns.forEach((each, index) => {
    if (!isSeen(each)) return;
    const text = shownValue(index, row);
    const cell = make("td", each.name + (isNumber(each) ? " number" : ""));
    if (each.name === "text") {
      const button = make("button", "open", make("span", "clamp", ...marked(text)));
      button.type = "button";
      button.dir = "auto";
      cell.append(button);
    } else {
      cell.append(make("bdi", "", ...(each.kind === "text" ? marked(text) : [text])));
    }
    if (each.name === "outcome" && text === "wrong") cell.classList.add("wrong");
    line.append(cell);
  });
  line.addEventListener("click", () => open(position));
  return line;
}

/* A text with what is searched for marked, cut to what two lines hold. */
function marked(text) {
  const at = state.search ? text.toLowerCase().indexOf(state.search.toLowerCase()) : -1;
  const begin = at > 120 ? at - 60 : 0;
  const part = (begin ? "… " : "") + text.slice(begin, begin + 400);
  const first = at < 0 ? -1 : at - begin + (begin ? 2 : 0);
  if (first < 0) return [part];
  const end = first + state.search.length;
  return [part.slice(0, first), make("mark", "", part.slice(first, end)), part.slice(end)];
}

/* Open the text at a position of those found. */
async function open(position) {
  const row = found[position];
  if (row === undefined) return;
  state.opened = position;
  const detail = await details.of(row);
  if (state.opened !== position) return; // another text was opened meanwhile
  const cells = about.columns.flatMap((each, i) => (each.name === "id" || each.name === "text" ? [] : [[visible(each.title), shownValue(i, row)]]));
  const text = rows.value(column("text"), row) || "";
  fillDialog(dialog, { id: rows.value(column("id"), row), text, cells, detail, onStep: (step) => open(state.opened + step) });
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

/* Follow a link of a section into the table. */
function follow(link) {
  const { search, label, predicted, true: wanted, outcome, open: id } = link.dataset;
  clear();
  if (id !== undefined) {
    state.sort = null;
    begin();
    const row = rows.columns[column("id")].data.indexOf(id);
    if (row >= 0) open(found.indexOf(row));
    return row >= 0;
  }
  if (search !== undefined) {
    state.search = search;
    place.querySelector("[data-role=search]").value = search;
  }
  const names = { label: column("label") >= 0 ? "label" : "predicted", predicted: "predicted", true: "matched", outcome: "outcome" };
  for (const [key, value] of Object.entries({ label, predicted, true: wanted, outcome })) {
    const index = column(names[key]);
    if (value === undefined || index < 0) continue;
    const choice = about.columns[index].kind === "name" ? about.columns[index].values.indexOf(value) : value;
    if (choice === -1) continue;
    setFilter(index, choice);
    const control = place.querySelector('[data-filter="' + CSS.escape(names[key]) + '"]');
    if (control) control.value = control.tagName === "SELECT" ? choice : value;
  }
  begin();
  return false;
}

function addListeners() {
  document.querySelectorAll("[data-theme-choice]").forEach((button) => button.addEventListener("click", () => {
    const theme = button.dataset.themeChoice;
    if (theme === "auto") delete root.dataset.theme;
    else root.dataset.theme = theme;
    document.querySelectorAll("[data-theme-choice]").forEach((each) => each.setAttribute("aria-pressed", String(each === button)));
  }));
  document.querySelectorAll("a[data-search], a[data-open], a[data-true]").forEach((link) => link.addEventListener("click", (event) => {
    if (rows && follow(link)) event.preventDefault();
  }));
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") open(state.opened + 1);
    else if (event.key === "ArrowLeft") open(state.opened - 1);
  });
}

async function start() {
  place.textContent = "Reading the texts …";
  const columns = [];
  for (const [index, each] of about.columns.entries()) columns.push({ ...each, data: await columnValues(index) });
  rows = new RowSet(about.rows, columns);
  place.replaceChildren(buildFinder(), buildTable(), buildPager());
  begin();
  root.dataset.ready = "";
}

root.classList.add("scripted");
addListeners();
start();
