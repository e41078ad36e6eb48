/* What follows from the chosen nodes, in words: shares, and the strongest paths. */
"use strict";

/* Text goes in as text, never as HTML: names of tokens may hold markup. */
function append(parent, name, text, className) {
  const element = parent.appendChild(document.createElement(name));
  if (text) element.textContent = text;
  if (className) element.className = className;
  return element;
}

/* Put into words what follows from the selected nodes of a picture. */
function describeTrace(panel, picture, selection, trace) {
  const isToken = selection.row === 0;
  const name = picture.nameOf(selection.tokens);
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
  if (isToken) strongestPaths(picture.tokenFlow, selection.tokens).forEach((path) => appendPath(list, path, picture, trace.start));
  else appendReached(list, picture, trace);
}

function appendPath(list, path, picture, start) {
  const item = append(list, "li");
  append(item, "span", percent(path.flow / start));
  const steps = append(item, "span", "", "step");
  const top = path.nodes.length - 1;
  append(steps, "bdi", picture.nameOf([path.nodes[0]]));
  for (let i = 1; i <= top; i++) {
    /* Layers in which the path stays with its token would only repeat its name. */
    if (path.nodes[i] === path.nodes[i - 1]) continue;
    /* Spaces of their own, at which a long path may break. */
    steps.append(" ");
    append(steps, "small", "layer " + (top - i + 1) + " →");
    steps.append(" ");
    append(steps, "bdi", picture.nameOf([path.nodes[i]]));
  }
}

function appendReached(list, picture, trace) {
  const reached = Array.from(trace.reached).sort((a, b) => b[1] - a[1]).slice(0, 8);
  for (const [token, amount] of reached) {
    const item = append(list, "li");
    append(item, "span", percent(amount / trace.start));
    append(item, "bdi", picture.nameOf([token]));
  }
}
