/* The flow as numbers: which links to draw, where they stand, and which paths lead where. Rows are
 * layers, row 0 at the tokens; columns are tokens in the order of the text, and never move sideways
 * between rows. Nothing here touches the page. */
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
