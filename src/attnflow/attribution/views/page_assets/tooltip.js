/* One tooltip for the page, at what the pointer or the focus is on. Its text goes in as text. */
"use strict";

const tooltip = document.body.appendChild(document.createElement("div"));
tooltip.className = "tip";
tooltip.setAttribute("role", "tooltip");
tooltip.hidden = true;

/* Show a text above an element, below it where there is no space; null hides it. */
function showTooltip(text, element) {
  tooltip.hidden = !text;
  if (!text) return;
  tooltip.textContent = text;
  /* A piece that is broken over two lines has two boxes: the first is where it begins. */
  const box = element.getClientRects()[0] || element.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = tooltip;
  const left = box.left + box.width / 2 - width / 2;
  tooltip.style.left = Math.max(4, Math.min(left, document.documentElement.clientWidth - width - 4)) + "px";
  tooltip.style.top = (box.top - height - 8 > 0 ? box.top - height - 8 : box.bottom + 8) + "px";
}

window.addEventListener("scroll", () => showTooltip(null), { capture: true, passive: true });
