/* A continuation: its text and its matrix show what the chosen token rests on, and let another be
 * chosen. `decisions` are all those of the page, of which the continuation has some; `onSelect` is
 * called with the index of the one that is chosen, `onPoint` with the tokens that are pointed at.
 * Nothing else of the page is known here. */
"use strict";

class ContinuationView {
  constructor(section, decisions, { onSelect, onPoint }) {
    Object.assign(this, { section, decisions, onSelect, onPoint });
    this.tokens = Array.from(section.querySelectorAll(".heat .t"));
    this.rows = Array.from(section.querySelectorAll("tbody tr"));
    this.columnHeads = Array.from(section.querySelectorAll("thead th[data-t]"));
    this.steps = Array.from(section.querySelectorAll("[data-step]"));
    /* One scale for all explained tokens, so that two of them can be compared. */
    const first = Number(this.rows[0].dataset.row);
    this.strongest = Math.max(...this.rows.map((row, i) => Math.max(...decisions[first + i].shares)));
    this.scroller = section.querySelector(".sheet");
    /* Listened to on the table as a whole: it may have tens of thousands of cells. */
    this.scroller.addEventListener("pointerover", (event) => this.describeCell(event.target.closest("tbody td")));
    this.scroller.addEventListener("pointerleave", () => this.describeCell(null));
    this.scroller.addEventListener("click", (event) => {
      const row = event.target.closest("tbody tr");
      if (!row) return;
      /* The link of a row is for pages without scripts: it would scroll away from the table. */
      event.preventDefault();
      this.onSelect(Number(row.dataset.row));
    });
  }

  /* Colour the text by what one decision rests on. */
  show(index) {
    const { shares } = this.decisions[index];
    const label = this.label(index);
    for (const token of this.tokens) {
      /* A chat template's tokens are joined to one piece of the text. */
      const share = sum(token.dataset.t.split(" ").map((t) => shares[t]));
      /* An image has its heat in its regions, below. */
      const hot = this.strongest && !token.classList.contains("of-image");
      token.style.setProperty("--h", hot ? Math.min(1, share / this.strongest).toFixed(2) : 0);
      const isExplained = Number(token.dataset.article) === index;
      if (isExplained) token.setAttribute("aria-current", "true");
      else token.removeAttribute("aria-current");
      const description = isExplained ? token.textContent + " is what is explained" : this.describe(token.textContent, share, label);
      token.dataset.about = description;
      token.setAttribute("aria-label", description);
    }
    for (const row of this.rows) {
      if (Number(row.dataset.row) === index) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    const places = this.rows.map((row) => Number(row.dataset.row));
    this.steps[0].disabled = index === places[0];
    this.steps[1].disabled = index === places[places.length - 1];
    this.scrollToCell(this.row(index), shares.indexOf(Math.max(...shares)));
  }

  /* Names and shares, 0 to 1, for export. */
  matrix() {
    const places = this.rows.map((row) => Number(row.dataset.row));
    return {
      explained: places.map((place) => this.label(place)),
      tokens: this.decisions[places[0]].names,
      shares: places.map((place) => this.decisions[place].shares.map((share) => share / 1e4)),
    };
  }

  row(index) {
    return this.rows.find((each) => Number(each.dataset.row) === index);
  }

  /* Scroll the table to a row's strongest cell. Not `scrollIntoView`, which scrolls the page too. */
  scrollToCell(row, token) {
    const head = this.columnHeads.find((each) => Number(each.dataset.t) === token);
    if (!head) return;
    const scroller = this.scroller;
    /* The first column and the head stay in place and cover what is below them. */
    const [coveredWidth, coveredHeight] = [row.cells[0].offsetWidth, head.parentElement.parentElement.offsetHeight];
    const isVisible = (offset, size, start, length) => offset >= start && offset + size <= start + length;
    if (!isVisible(head.offsetLeft, head.offsetWidth, scroller.scrollLeft + coveredWidth, scroller.clientWidth - coveredWidth)) {
      scroller.scrollLeft = head.offsetLeft - (scroller.clientWidth + coveredWidth) / 2;
    }
    if (!isVisible(row.offsetTop, row.offsetHeight, scroller.scrollTop + coveredHeight, scroller.clientHeight - coveredHeight)) {
      scroller.scrollTop = row.offsetTop - (scroller.clientHeight + coveredHeight) / 2;
    }
  }

  label(index) {
    return this.row(index).cells[0].textContent;
  }

  describe(name, share, label) {
    /* Shares come as hundredths of a percent, see page.py. */
    return "“" + label + "” rests on “" + name + "”: " + percent(share / 1e4);
  }

  /* Describe a cell of the matrix, and point out its two tokens. */
  describeCell(cell) {
    this.rows.forEach((each) => each.cells[0].classList.remove("lit"));
    if (!cell || cell.cellIndex === 0) {
      showTooltip(null);
      this.onPoint([]);
      return;
    }
    const row = cell.parentElement;
    const head = this.columnHeads[cell.cellIndex - 1];
    const { shares, names } = this.decisions[Number(row.dataset.row)];
    const token = Number(head.dataset.t);
    this.onPoint([token]);
    row.cells[0].classList.add("lit");
    showTooltip(this.describe(names[token], shares[token], this.label(Number(row.dataset.row))), cell);
  }
}
