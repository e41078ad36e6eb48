/* A continuation: its text and its matrix show what the chosen token rests on, and let another be
 * chosen. `texts` are the page's decisions, of which the continuation has some; nothing else of the
 * page is known here. */
"use strict";

class Written {
  constructor(section, texts, chosen) {
    Object.assign(this, { section, texts, chosen });
    this.items = Array.from(section.querySelectorAll(".heat .t"));
    this.rows = Array.from(section.querySelectorAll("tbody tr"));
    this.heads = Array.from(section.querySelectorAll("thead th[data-column]"));
    this.cell = section.querySelector("[data-cell]");
    this.sheet = section.querySelector(".sheet");
    this.sheet.addEventListener("pointerover", (event) => this.point(event.target.closest("tbody td")));
    this.sheet.addEventListener("pointerleave", () => this.point(null));
    this.sheet.addEventListener("click", (event) => {
      const row = event.target.closest("tbody tr");
      if (!row) return;
      event.preventDefault();
      this.chosen(Number(row.dataset.row));
    });
  }

  /* Colour the text by what one decision rests on. */
  show(index) {
    const { shares } = this.texts[index];
    const label = this.label(index);
    const strongest = Math.max(...shares);
    for (const item of this.items) {
      const share = sum(item.dataset.t.split(" ").map((token) => shares[token]));
      item.style.setProperty("--h", strongest ? (share / strongest).toFixed(2) : 0);
      const own = Number(item.dataset.article) === index;
      if (own) item.setAttribute("aria-current", "true");
      else item.removeAttribute("aria-current");
      const words = own ? item.textContent + " is what is explained" : this.about(item.textContent, share, label);
      item.dataset.about = words;
      item.setAttribute("aria-label", words);
    }
    for (const row of this.rows) {
      if (Number(row.dataset.row) === index) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    this.bringIntoSight(this.row(index), shares.indexOf(strongest));
  }

  row(index) {
    return this.rows.find((each) => Number(each.dataset.row) === index);
  }

  /* Scroll the table, and never the page, to a row's strongest cell. */
  bringIntoSight(row, token) {
    const head = this.heads.find((each) => Number(each.dataset.column) === token);
    if (!head) return;
    const sheet = this.sheet;
    const [left, top] = [row.cells[0].offsetWidth, head.parentElement.parentElement.offsetHeight];
    const inside = (at, size, start, room) => at >= start && at + size <= start + room;
    if (!inside(head.offsetLeft, head.offsetWidth, sheet.scrollLeft + left, sheet.clientWidth - left)) {
      sheet.scrollLeft = head.offsetLeft - (sheet.clientWidth + left) / 2;
    }
    if (!inside(row.offsetTop, row.offsetHeight, sheet.scrollTop + top, sheet.clientHeight - top)) {
      sheet.scrollTop = row.offsetTop - (sheet.clientHeight + top) / 2;
    }
  }

  label(index) {
    return this.row(index).cells[0].textContent;
  }

  about(name, share, label) {
    return "“" + label + "” rests on “" + name + "”: " + percent(share / 1e4);
  }

  /* Say which tokens a cell is about, and mark their names. */
  point(cell) {
    this.section.querySelectorAll(".lit").forEach((each) => each.classList.remove("lit"));
    if (!cell || cell.cellIndex === 0) {
      this.cell.textContent = "";
      return;
    }
    const row = cell.parentElement;
    const head = this.heads[cell.cellIndex - 1];
    const { shares, names } = this.texts[Number(row.dataset.row)];
    const token = Number(head.dataset.column);
    row.cells[0].classList.add("lit");
    head.classList.add("lit");
    this.cell.textContent = this.about(names[token], shares[token], this.label(Number(row.dataset.row)));
  }
}
