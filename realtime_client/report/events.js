// The list of events: as many rows as one can read; the rest when asked for.
const ROWS_A_TIME = 200;
const ARROWS = { in: "←", out: "→", note: "·", "?": "?" };
const WAYS = { in: "from the server", out: "from the client", note: "note of the recorder", "?": "unknown" };

class EventTable {
  constructor() {
    this.rows = dataOf("event-data") || [];
    this.body = document.getElementById("event-rows");
    this.more = document.getElementById("more");
    this.direction = document.getElementById("direction");
    this.type = document.getElementById("type");
    this.search = document.getElementById("search");
    this.count = document.getElementById("events-shown");
    this.fillTypes();
    for (const field of [this.direction, this.type]) field.addEventListener("change", () => this.show());
    this.search.addEventListener("input", later(() => this.show(), 120));
    this.more.addEventListener("click", () => this.append());
    this.show();
  }

  fillTypes() {
    const types = new Map();
    for (const row of this.rows) types.set(row[3], (types.get(row[3]) || 0) + row[4]);
    for (const name of [...types.keys()].sort()) {
      const option = element("option", "", name + " (" + types.get(name) + ")");
      option.value = name;
      this.type.append(option);
    }
  }

  show() {
    const words = this.search.value.trim().toLowerCase();
    const direction = this.direction.value;
    const type = this.type.value;
    this.found = this.rows.filter(
      (row) =>
        (!direction || row[2] === direction) &&
        (!type || row[3] === type) &&
        (!words || (row[3] + " " + row[6] + " " + row[7]).toLowerCase().includes(words)),
    );
    this.shown = 0;
    this.body.replaceChildren();
    this.append();
  }

  append() {
    const next = this.found.slice(this.shown, this.shown + ROWS_A_TIME);
    this.body.append(...next.map((row) => this.line(row)));
    this.shown += next.length;
    this.more.hidden = this.shown >= this.found.length;
    this.count.textContent = this.shown + " of " + this.found.length + " rows";
  }

  line([n, t, direction, kind, count, audioS, summary, detail]) {
    const row = element("tr");
    const way = element("td", direction, ARROWS[direction]);
    way.title = WAYS[direction];
    row.append(element("td", "", t.toFixed(3)), way, element("td", "", kind), this.what(count, audioS, summary, detail));
    row.title = "line " + n + " of journal.jsonl";
    return row;
  }

  what(count, audioS, summary, detail) {
    const parts = [];
    if (count > 1) parts.push("×" + count);
    if (audioS) parts.push(audioS.toFixed(2) + " s of sound");
    if (summary) parts.push(summary);
    const cell = element("td");
    if (!detail) {
      cell.append(element("div", "plain", parts.join(" · ")));
      return cell;
    }
    const fold = element("details");
    const head = element("summary", "", parts.join(" · ") || "details");
    fold.append(head);
    fold.addEventListener("toggle", () => {
      if (fold.open && fold.children.length === 1) fold.append(element("pre", "", detail));
    });
    cell.append(fold);
    return cell;
  }
}
