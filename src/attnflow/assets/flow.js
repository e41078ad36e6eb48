/* The flow as a layered picture. Rows are layers, the tokens at the bottom; columns are tokens in
 * the order of the text, and never move sideways between rows. A node is as wide as what passes it,
 * a link as thick as what it carries. Nothing here knows the page around the picture. */
"use strict";

const UNITS = 1e6;
const THIN = 2;
const SLANTED = 15;
const GAP = 14;
const MARGIN = 44;
const HAIR = 0.6;
const PATHS = 5;
const CROWD = 1500;
const TRACE = 10;

const percent = (share) => share > 0 && share < 0.0005 ? "< 0.1 %" : (100 * share).toFixed(1) + " %";

/* The largest links of every layer that together hold `keep` of its flow. */
function cut(flow, keep) {
  const kept = [];
  flow.layers.forEach((layer, l) => {
    let held = 0;
    for (let i = 0; i < layer.flow.length && held < keep * layer.total; i++) {
      held += layer.flow[i];
      kept.push({ layer: l, query: layer.query[i], key: layer.key[i], flow: layer.flow[i] });
    }
  });
  return kept;
}

/* The largest of these shares, in percent, whose picture is not yet a thicket; else the smallest. */
function comfortable(flow, shares) {
  const fits = (share) => cut(flow, share / 100).length <= CROWD;
  return shares.filter(fits).pop() || shares[0];
}

/* Where every column stands, and which ones are named. A short text has room for all names. A long
 * one is fitted to the room with only its strongest tokens named, or, `spread` out, has every token
 * with a drawn link named and scrolls. Tokens that no drawn link touches shrink. */
function columns(flow, names, kept, room, spread, measure) {
  const thick = Math.max(36, Math.min(88, room / 11));
  const all = names.map((_, t) => t);
  const bulk = all.map((t) => thick * Math.max(...flow.through.map((row) => row[t])) / UNITS);
  const plain = all.map((t) => Math.max(bulk[t] + 6, measure(short(names[t], 14)) + GAP));
  const live = new Set(kept.flatMap((link) => [link.query, link.key]));
  if (sum(plain) <= room - 2 * GAP) {
    return stand(plain, { thick, live: new Set(all), named: new Set(all), pitch: 12, slanted: false }, room, GAP);
  }
  if (spread) {
    const wide = all.map((t) => live.has(t) ? Math.max(bulk[t] + 6, SLANTED) : THIN);
    return stand(wide, { thick, live, named: live, pitch: 12, slanted: true }, room, MARGIN);
  }
  const weight = (t) => live.has(t) ? 1 : 0.4;
  const pitch = Math.max(1.5, (room - MARGIN - GAP - sum(bulk)) / sum(all.map(weight)));
  const wide = all.map((t) => bulk[t] + pitch * weight(t));
  const place = stand(wide, { thick, live, pitch, slanted: true }, room, MARGIN);
  return { ...place, named: leaders(flow, place.centre, live) };
}

/* Centres of columns of these widths, side by side; room to spare is shared out. */
function stand(widths, place, room, margin) {
  const spare = Math.max(0, room - margin - GAP - sum(widths)) / widths.length;
  let x = margin;
  const centre = widths.map((width) => {
    x += width + Math.min(spare, 90);
    return x - (width + Math.min(spare, 90)) / 2;
  });
  return { ...place, centre, width: Math.max(x + GAP, 120) };
}

/* The strongest tokens whose names do not run into each other. */
function leaders(flow, centre, live) {
  const named = [];
  const order = Array.from(live).sort((a, b) => flow.through[0][b] - flow.through[0][a]);
  for (const t of order) {
    if (named.every((other) => Math.abs(centre[other] - centre[t]) >= SLANTED)) named.push(t);
  }
  return new Set(named);
}

const at = (x, y) => " " + x.toFixed(1) + " " + y.toFixed(1);
const sum = (values) => values.reduce((all, value) => all + value, 0);

function short(name, length) {
  const characters = Array.from(name);
  return characters.length > length ? characters.slice(0, length - 1).join("") + "…" : name;
}

/* Give each link its two ends: side by side at a node, in the order of where they lead. */
function attach(kept, place) {
  const ends = (row, own, other, end) => {
    const nodes = new Map();
    for (const link of kept) {
      const node = row(link) + " " + link[own];
      if (!nodes.has(node)) nodes.set(node, []);
      nodes.get(node).push(link);
    }
    for (const links of nodes.values()) {
      links.sort((a, b) => a[other] - b[other]);
      const whole = sum(links.map((link) => link.flow));
      let x = place.centre[links[0][own]] - place.thick * whole / UNITS / 2;
      for (const link of links) {
        link.width = place.thick * link.flow / UNITS;
        link[end] = x + link.width / 2;
        x += link.width;
      }
    }
  };
  ends((link) => link.layer + 1, "query", "key", "from");
  ends((link) => link.layer, "key", "query", "to");
}

/* Follow a set of nodes of one row in true proportion, up to the decision and down to the tokens. */
function follow(flow, row, tokens) {
  const traced = [];
  const start = new Map(tokens.map((t) => [t, flow.through[row][t]]));
  const step = (masses, l, own, other, passing) => {
    const next = new Map();
    const layer = flow.layers[l];
    for (let i = 0; i < layer.flow.length; i++) {
      const mass = masses.get(layer[own][i]);
      if (!mass) continue;
      const part = mass * layer.flow[i] / passing[layer[own][i]];
      traced.push({ layer: l, query: layer.query[i], key: layer.key[i], flow: part });
      next.set(layer[other][i], (next.get(layer[other][i]) || 0) + part);
    }
    return next;
  };
  let up = start;
  for (let l = row; l < flow.layers.length; l++) up = step(up, l, "key", "query", flow.through[l]);
  let down = start;
  for (let l = row - 1; l >= 0; l--) down = step(down, l, "query", "key", flow.through[l + 1]);
  const mass = (masses) => sum(Array.from(masses.values()));
  return { traced, start: mass(start), top: mass(up), bottom: down };
}

/* The strongest single paths from the decision to some tokens, largest first. */
function strongest(flow, tokens) {
  let paths = new Map(tokens.map((t) => [t, [{ flow: flow.through[0][t], nodes: [t] }]]));
  flow.layers.forEach((layer, l) => {
    const next = new Map();
    for (let i = 0; i < layer.flow.length; i++) {
      const below = paths.get(layer.key[i]);
      if (!below) continue;
      const share = layer.flow[i] / flow.through[l][layer.key[i]];
      const above = next.get(layer.query[i]) || [];
      for (const path of below) above.push({ flow: path.flow * share, last: path, node: layer.query[i] });
      next.set(layer.query[i], above.sort((a, b) => b.flow - a.flow).slice(0, PATHS));
    }
    paths = next;
  });
  return Array.from(paths.values()).flat().sort((a, b) => b.flow - a.flow).slice(0, PATHS).map(unroll);
}

function unroll(path) {
  const nodes = [];
  let step = path;
  while (step.last) {
    nodes.push(step.node);
    step = step.last;
  }
  return { flow: path.flow, nodes: nodes.concat(step.nodes) };
}

/* The picture itself; `heard` is told what is pointed at and what is chosen. */
class Picture {
  constructor(section, text, heard) {
    Object.assign(this, { section, flow: text.flow, names: text.names, special: text.special, heard });
    this.svg = section.querySelector("svg");
    this.canvas = section.querySelector(".canvas");
    this.rows = section.querySelector(".rows");
    this.ink = document.createElement("canvas").getContext("2d");
    this.layers = this.flow.layers.length;
    this.focus = [0, 0];
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  create(name, attributes, parent) {
    const element = document.createElementNS(this.svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return parent.appendChild(element);
  }

  measure(name) {
    this.ink.font = getComputedStyle(this.svg).font;
    return this.ink.measureText(name).width;
  }

  /* Draw so much of the flow, fitted to the room or spread out; returns the share drawn. */
  draw(keep, spread) {
    this.keep = keep;
    const kept = cut(this.flow, keep);
    const measure = (name) => this.measure(name);
    this.place = columns(this.flow, this.names, kept, this.canvas.clientWidth, spread, measure);
    this.step = Math.max(34, Math.min(64, 440 / this.layers));
    const height = this.y(0) + (this.place.slanted ? 92 : 36);
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", "0 0 " + this.place.width + " " + height);
    this.svg.setAttribute("width", this.place.width);
    this.svg.setAttribute("height", height);
    this.drawRows();
    this.drawLinks(kept);
    this.trace = this.create("g", { class: "trace" }, this.svg);
    this.drawNodes();
    return sum(kept.map((link) => link.flow)) / sum(this.flow.layers.map((layer) => layer.total));
  }

  y(row) {
    return 20 + (this.layers - row) * this.step;
  }

  drawRows() {
    this.rows.replaceChildren();
    const name = (text, y) => {
      const label = this.rows.appendChild(document.createElement("span"));
      label.textContent = text;
      label.style.top = y + "px";
    };
    name("decision", this.y(this.layers));
    for (let l = 0; l < this.layers; l++) name("layer " + (l + 1), this.y(l + 0.5));
    name("tokens", this.y(0));
    const lines = this.create("g", {}, this.svg);
    for (let row = 0; row <= this.layers; row++) {
      const y = this.y(row);
      this.create("line", { class: "row-line", x1: 0, x2: this.place.width, y1: y, y2: y }, lines);
    }
  }

  hair(link) {
    const [top, bottom] = [this.y(link.layer + 1) + 3, this.y(link.layer) - 3];
    const middle = (top + bottom) / 2;
    return "M" + at(link.from, top) + "C" + at(link.from, middle) + at(link.to, middle) + at(link.to, bottom);
  }

  /* The area of a link. Its two sides turn at different heights, so that it stays thick on its way. */
  ribbon(link, clear) {
    const [top, bottom] = [this.y(link.layer + 1) + clear, this.y(link.layer) - clear];
    const across = link.to - link.from;
    const half = link.width / 2;
    const turn = Math.sign(across) * Math.min(half, this.step / 4) * Math.min(1, Math.abs(across) / this.step);
    const middle = (top + bottom) / 2;
    const side = (x0, y0, x1, y1, y) => at(x0, y0) + "C" + at(x0, y) + at(x1, y) + at(x1, y1);
    return "M" + side(link.from - half, top, link.to - half, bottom, middle + turn)
      + "L" + side(link.to + half, bottom, link.from + half, top, middle - turn) + "Z";
  }

  drawLinks(kept) {
    attach(kept, this.place);
    const group = this.create("g", { class: "links" }, this.svg);
    const hairs = kept.filter((link) => link.width < HAIR);
    const faint = Math.min(1, Math.sqrt(CROWD / kept.length));
    if (hairs.length) {
      const d = hairs.map((link) => this.hair(link)).join("");
      this.create("path", { class: "hairs", d, "stroke-opacity": (0.3 * faint).toFixed(2) }, group);
    }
    for (const link of kept.filter((each) => each.width >= HAIR).reverse()) {
      const opacity = (0.22 * faint + 0.5 * Math.sqrt(link.flow / UNITS)).toFixed(2);
      const path = this.create("path", {
        class: "link", d: this.ribbon(link, 3), "fill-opacity": opacity,
      }, group);
      path.addEventListener("pointerenter", () => this.heard.pointed(this.aboutLink(link)));
    }
  }

  drawNodes() {
    this.nodes = new Map();
    const group = this.create("g", { role: "group", "aria-label": "Nodes; arrow keys move, Enter follows" }, this.svg);
    for (let row = this.layers; row >= 0; row--) {
      for (const t of Array.from(this.place.live).sort((a, b) => a - b)) {
        if (this.flow.through[row][t] > 0) this.drawNode(row, t, group);
      }
    }
    if (!this.nodes.has(this.focus.join(" "))) this.focus = Array.from(this.nodes.keys()).pop().split(" ").map(Number);
    this.nodes.get(this.focus.join(" ")).setAttribute("tabindex", "0");
  }

  drawNode(row, t, group) {
    const share = this.flow.through[row][t] / UNITS;
    const width = Math.max(1.2, this.place.thick * share);
    const [x, y] = [this.place.centre[t], this.y(row)];
    const node = this.create("g", {
      class: row === 0 && this.special[t] ? "node special" : "node", role: "button", tabindex: "-1",
      "aria-pressed": "false", "aria-label": this.aboutNode(row, t),
    }, group);
    const opacity = Math.min(1, 0.35 + 3 * Math.sqrt(share)).toFixed(2);
    this.create("rect", { x: x - width / 2, y: y - 3, width, height: 6, rx: Math.min(1.5, width / 2), opacity }, node);
    const hit = Math.max(width + 2, Math.min(12, this.place.pitch));
    this.create("rect", { class: "hit", x: x - hit / 2, y: y - 9, width: hit, height: 18, rx: Math.min(4, hit / 2) }, node);
    if (row === 0 && this.place.named.has(t)) this.drawLabel(t, x, y, node);
    node.addEventListener("click", () => this.heard.chosen(row, [t]));
    node.addEventListener("pointerenter", () => this.heard.pointed(this.aboutNode(row, t)));
    node.addEventListener("focus", () => this.heard.pointed(this.aboutNode(row, t)));
    this.nodes.set(row + " " + t, node);
  }

  drawLabel(t, x, y, node) {
    const label = this.create("text", this.place.slanted
      ? { x: x + 4, y: y + 18, "text-anchor": "end", transform: "rotate(-58 " + x + " " + (y + 16) + ")" }
      : { x, y: y + 26, "text-anchor": "middle" }, node);
    label.textContent = short(this.names[t], 14);
  }

  aboutNode(row, t) {
    const share = this.flow.through[row][t] / UNITS;
    const where = row === 0 ? "at the tokens" : row === this.layers ? "at the decision" : "above layer " + row;
    return this.names[t] + ", " + where + ": " + this.amount(share);
  }

  aboutLink(link) {
    return this.names[link.query] + " → " + this.names[link.key] + ", layer " + (link.layer + 1) + ": " + this.amount(link.flow / UNITS);
  }

  amount(share) {
    return (share * this.flow.value).toPrecision(3) + ", " + percent(share) + " of the flow";
  }

  /* Light up what passes some nodes, keeping as much of it as the picture keeps of the flow. */
  light(row, tokens) {
    this.dark();
    const found = follow(this.flow, row, tokens);
    const total = sum(found.traced.map((link) => link.flow));
    found.traced.sort((a, b) => b.flow - a.flow);
    let held = 0;
    const lit = found.traced.filter((link) => (held += link.flow) - link.flow < Math.max(this.keep, 0.8) * total);
    const wider = Math.max(1, TRACE / (this.place.thick * found.start / UNITS));
    attach(lit, { ...this.place, thick: this.place.thick * wider });
    for (const link of lit) {
      link.width = Math.max(link.width, HAIR);
      const opacity = (0.4 + 0.6 * Math.sqrt(link.flow / found.start)).toFixed(2);
      this.create("path", { class: "traced", d: this.ribbon(link, 0), "fill-opacity": opacity }, this.trace);
    }
    for (const t of tokens) this.single(row, t);
    this.svg.classList.add("following");
    return { ...found, wider };
  }

  /* Mark a chosen node and name it, also where the picture had no room for its name. */
  single(row, t) {
    this.nodes.get(row + " " + t)?.setAttribute("aria-pressed", "true");
    const [x, y] = [this.place.centre[t], this.y(row)];
    const width = Math.max(12, this.place.thick * this.flow.through[row][t] / UNITS + 6);
    this.create("rect", { class: "ring", x: x - width / 2, y: y - 9, width, height: 18, rx: 4 }, this.trace);
    if (row > 0) return;
    for (const other of this.place.named) {
      const near = this.place.slanted && Math.abs(this.place.centre[other] - x) < SLANTED;
      if (near) this.nodes.get("0 " + other)?.classList.add("yielding");
    }
    if (this.place.slanted) this.drawLabel(t, x, y, this.create("g", { class: "node named" }, this.trace));
  }

  dark() {
    this.trace.replaceChildren();
    this.svg.querySelectorAll(".yielding").forEach((node) => node.classList.remove("yielding"));
    this.svg.classList.remove("following");
    this.svg.querySelectorAll('[aria-pressed="true"]').forEach((node) => node.setAttribute("aria-pressed", "false"));
  }

  key(event) {
    const [row, t] = this.focus;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [1, 0], ArrowDown: [-1, 0] };
    if (event.key === "Enter" || event.key === " ") this.heard.chosen(row, [t]);
    else if (moves[event.key]) this.move(row, t, ...moves[event.key]);
    else return;
    event.preventDefault();
  }

  /* The next node in a row, or the nearest one in the next row that has any. */
  move(row, t, rows, side) {
    const there = Array.from(this.nodes.keys(), (name) => name.split(" ").map(Number))
      .filter((node) => node[0] === row + rows && (side === 0 || (node[1] - t) * side > 0))
      .sort((a, b) => Math.abs(a[1] - t) - Math.abs(b[1] - t));
    if (!there.length) return;
    this.nodes.get(this.focus.join(" ")).setAttribute("tabindex", "-1");
    this.focus = there[0];
    const node = this.nodes.get(this.focus.join(" "));
    node.setAttribute("tabindex", "0");
    node.focus();
  }
}
